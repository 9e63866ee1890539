"""A real server over a fake warden, and clients that speak to it over its socket."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from sandboxd.store import keypairs
from sandboxd.store.database import Database
from sandboxd.store.keypairs import Keypair

from ..http_clients import network_client, unix_client
from ..signing import Signed
from ..waiting import PATIENCE_S, until
from . import conformity
from .api_process import ApiProcess
from .serve import serve

ROOT = Path(__file__).parents[2]

USER = f"uid:{os.geteuid()}"
"""The owner at the Unix socket: the user who runs the tests."""


class Server:
    """The api in a process of its own; `base` has what its fake warden keeps."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.path = str(base / "s")
        self.keyed = str(base / "keyed")
        with _listening(base) as (listeners, monitor):
            self.process = ApiProcess(serve, base, listeners, monitor)
        self.client = checked(unix_client(self.path))
        self._clients = [self.client]
        try:
            self.client.get("/")  # is answered when it serves
        except httpx.TransportError:
            self.stop()
            raise ChildProcessError(self.log()) from None

    def log(self) -> str:
        """The log of the server so far."""
        return (self.base / "log").read_text()

    def sweep(self) -> None:
        """Return when its periodic work has looked at all sessions once more."""
        sweeps = self.base / "sweeps"
        # the next look may have begun already, the one after it has not
        enough = (sweeps.stat().st_size if sweeps.exists() else 0) + 3
        until(lambda: sweeps.exists() and sweeps.stat().st_size >= enough)

    def rest(self) -> None:
        """Return when the server has nothing to do, by the CPU time that it uses."""
        process = psutil.Process(self.process.pid)

        def rests() -> bool:
            before = sum(process.cpu_times()[:2])
            time.sleep(0.3)
            return sum(process.cpu_times()[:2]) - before < 0.1

        until(rests)

    def refuse(self, **answers: dict[str, Any]) -> None:
        """Let the fake warden answer so."""
        temporary = self.base / "refuse.new"
        temporary.write_text(json.dumps(answers))
        temporary.rename(self.base / "refuse.json")

    def keypair(self, admin: bool = False, rate_limit: int | None = None) -> Keypair:
        """A new keypair, made beside the server as the command line does."""
        keypair = keypairs.generate(admin, time.time(), rate_limit)
        database = Database(str(self.base / "sandboxd.sqlite"))
        keypairs.add(database, keypair)
        database.close()
        return keypair

    def signed(self, keypair: Keypair | None) -> httpx.Client:
        """A client over TCP that signs with `keypair`; None: one that does not sign."""
        auth = Signed(keypair.access_key, keypair.secret_key) if keypair else None
        port = (self.base / "port").read_text()
        signing = network_client(f"http://127.0.0.1:{port}", auth=auth)
        checked(signing)
        self._clients.append(signing)
        return signing

    def new_client(self) -> httpx.Client:
        """Another client over the Unix socket."""
        return checked(unix_client(self.path))

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        for each in self._clients:
            each.close()
        self.process.terminate()
        return self.process.wait(PATIENCE_S)


@contextlib.contextmanager
def _listening(base: Path) -> Iterator[tuple[list[socket.socket], socket.socket]]:
    """The listeners of a server and that of its monitor; the port's number is in BASE/port."""
    with contextlib.ExitStack() as stack:
        paths = (base / "s", base / "keyed", base / "s-monitor")
        local, keyed, monitor = (stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in paths)
        for listener, path in zip((local, keyed, monitor), paths, strict=True):
            path.unlink(missing_ok=True)
            listener.bind(str(path))
            path.chmod(0o666)
            listener.listen(128)
        network = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        (base / "port").write_text(str(network.getsockname()[1]))
        yield [local, network, keyed], monitor


def checked(client: httpx.Client) -> httpx.Client:
    """The client, which now checks each response by the OpenAPI document."""
    client.event_hooks = {"response": [conformity.check]}
    return client


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """One server for all tests; each makes its own sessions."""
    with tempfile.TemporaryDirectory(prefix="sandboxd-api-") as base:
        server = Server(Path(base))
        yield server
        assert server.stop() == 0
        assert "Traceback" not in server.log()


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    """Starts servers one after the other, each with what the one before has left; takes fields
    of config.Sessions, and other tables of the configuration as `tables`."""
    started: list[Server] = []
    with tempfile.TemporaryDirectory(prefix="sandboxd-api-") as base:

        def start(tables: dict[str, Any] | None = None, **sessions: float) -> Server:
            config = {"sessions": sessions} | (tables or {})
            Path(base, "config.json").write_text(json.dumps(config))
            started.append(Server(Path(base)))
            return started[-1]

        yield start
        for server in started:
            server.stop()


@pytest.fixture
def own_server(start: Callable[[], Server]) -> Server:
    """A server that the test may break."""
    return start()


@pytest.fixture
def http(server: Server) -> httpx.Client:
    """A client of the common server."""
    return server.client


@pytest.fixture
def session(http: httpx.Client) -> Iterator[str]:
    """The UUID of a session of the test's own."""
    id = http.post("/session", json={"image": "c"}).json()["sessionId"]
    yield id
    http.delete(f"/session/{id}")


@pytest.fixture(scope="module")
def lasting_session(server: Server) -> Iterator[str]:
    """The UUID of a session for all tests of a module whose requests are refused."""
    id = server.client.post("/session", json={"image": "c"}).json()["sessionId"]
    yield id
    assert server.client.delete(f"/session/{id}").status_code == 200


Result = dict[str, Any]


@pytest.fixture
def call(http: httpx.Client, session: str) -> Callable[..., Result]:
    """One execute call, its result."""

    def call(mode: str, run: str | None = None, code: str = "", **options: Any) -> Result:
        body = {"mode": mode, "runId": run, "code": code, "options": options}
        answer = http.post(f"/session/{session}", json=body)
        assert answer.status_code == 200, answer.text
        result: Result = answer.json()["result"]
        return result

    return call


@pytest.fixture
def run(call: Callable[..., Result]) -> Callable[..., list[Result]]:
    """A whole run, its results; without those of a busy host that say nothing new."""

    def run(**options: Any) -> list[Result]:
        results = [call("batch", **options)]
        while results[-1]["status"] not in ("finished", "exec-timeout"):
            results.append(call("continue", results[-1]["runId"]))
        return [one for one in results if one["status"] != "continued" or one["console"]]

    return run
