"""A network for tests: two namespaces with addresses of the suite's own, names, servers, a daemon.

The daemon is in one namespace, the servers are in the other, and a pair of interfaces joins them.
The addresses look public, so the broker may connect to them; no packet leaves the namespaces. The
names are in an /etc/hosts that only the daemon sees.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from ...http_clients import unix_client
from ..daemon import OURS, Daemon, running

DAEMON, SERVER, OTHER, PRIVATE = "11.0.0.1", "11.0.0.2", "11.0.0.3", "10.99.0.2"
"""Addresses: of the daemon's namespace, and of the servers: two public ones and a private one."""

NAMES = {
    "index.example": SERVER,
    "a.files.example": SERVER,
    "files.example": SERVER,
    "other.example": SERVER,
    "far.example": OTHER,
    "private.example": PRIVATE,
    "listed.example": PRIVATE,
    "own.example": DAEMON,
    "loopback.example": "127.0.0.1",
    "metadata.example": "169.254.169.254",
    "mapped.example": "::ffff:127.0.0.1",
    "translated.example": "64:ff9b::10.99.0.2",
    "translated-own.example": f"64:ff9b::{DAEMON}",
}

PROFILES = f"""
[network.profiles.packages]
hosts = ["index.example:443", "index.example:80", "index.example:444", "*.files.example:443",
         "private.example:80", "own.example:80", "loopback.example:80", "metadata.example:80",
         "mapped.example:80", "translated.example:80", "translated-own.example:80",
         "far.example:81", "nowhere.example:80"]
[network.profiles.internal]
hosts = ["listed.example:80", "{PRIVATE}:80", "index.example:80"]
[network.profiles.small]
hosts = ["index.example:80", "index.example:443"]
connections = 4
bytes = 2000000
rate = 50000000
idle_s = 3
connect_s = 1
[network.profiles.closed]
hosts = ["index.example:80"]
owners = ["AKIANOBODY"]
"""

SERVERS = Path(__file__).with_name("servers.py")


class World:
    """The namespaces, and the directory `folder`.

    www  the root of the servers
    ca   the certificate that their certificate is signed with: its own
    """

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.folder = folder
        self.www = folder / "www"
        self.www.mkdir(exist_ok=True)
        self.ca = folder / "ca.pem"
        hosts = "".join(f"{address} {name}\n" for name, address in NAMES.items())
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n{hosts}")
        self._certify()
        self._near, self._far = (stack.enter_context(_namespace()) for _ in range(2))
        self._join()
        command = [sys.executable, str(SERVERS), str(self.www), str(self.ca), str(folder / "key")]
        servers = subprocess.Popen(
            [*self._in(self._far), *command, SERVER, OTHER, PRIVATE],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        stack.callback(_end, servers)
        assert servers.stdout
        assert servers.stdout.readline() == "ready\n"

    def _certify(self) -> None:
        names = ",".join(f"DNS:{name}" for name in NAMES)
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-days", "2", "-subj", "/CN=index.example", "-addext",
             f"subjectAltName={names}", "-keyout", str(self.folder / "key"), "-out", str(self.ca)],
            check=True, capture_output=True,
        )  # fmt: skip
        self.ca.chmod(0o644)

    @staticmethod
    def _in(namespace: int) -> list[str]:
        return ["nsenter", f"--net=/proc/{namespace}/ns/net"]

    def _join(self) -> None:
        """Join the namespaces, and give each its addresses."""
        near, far = f"v{self._near}", f"w{self._far}"
        for line in (
            f"ip link add {near} netns {self._near} type veth peer name {far} netns {self._far}",
        ):
            subprocess.run(line.split(), check=True)
        plan = [(self._near, near, [DAEMON, "10.99.0.1"]),
                (self._far, far, [SERVER, OTHER, PRIVATE])]  # fmt: skip
        for namespace, device, addresses in plan:
            lines = [f"ip addr add {address}/24 dev {device}" for address in addresses]
            for line in [*lines, f"ip link set {device} up", "ip link set lo up"]:
                subprocess.run([*self._in(namespace), *line.split()], check=True)

    @property
    def prefix(self) -> list[str]:
        """The beginning of a command in the namespace of the daemon, with the names."""
        script = f'mount --bind {self.folder}/hosts /etc/hosts && exec "$@"'
        return [*self._in(self._near), "unshare", "-m", "sh", "-c", script, "sh"]

    @contextlib.contextmanager
    def daemon(self, profiles: str = PROFILES, log: Path | None = None) -> Iterator[Daemon]:
        """A daemon in the namespace."""
        with running(self.folder, profiles, self.prefix, {"SSL_CERT_FILE": str(self.ca)}) as one:
            yield one


@contextlib.contextmanager
def world() -> Iterator[World]:
    """A network for the time of a `with`."""
    with tempfile.TemporaryDirectory(prefix=OURS) as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o711)
        yield World(folder, stack)


@contextlib.contextmanager
def _namespace() -> Iterator[int]:
    """The pid of a process that holds a network namespace."""
    holder = subprocess.Popen(
        ["unshare", "-n", "sh", "-c", "echo ready; exec sleep infinity"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert holder.stdout
        assert holder.stdout.readline() == "ready\n"
        yield holder.pid
    finally:
        _end(holder)


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    if process.stdout:
        process.stdout.close()


def client(daemon: Daemon) -> httpx.Client:
    """Root at the Unix socket, which has no network."""
    return unix_client(f"{daemon.folder}/api.sock")


class Result:
    """The end of a run.

    out   the output of the program, both streams
    log   the messages of sandboxd, without the advice
    """

    def __init__(self, result: dict[str, Any]) -> None:
        self.code = result["exitCode"]
        console = result["console"]
        self.out = "".join(data for kind, data in console if kind != "log")
        logged = [data[3] for kind, data in console if kind == "log"]
        self.log = [text for text in logged if not text.startswith("exec: ")]
        self.advice = result["verdict"]["advice"] if result.get("verdict") else ""


def run(
    http: httpx.Client, network: Any, command: str, image: str = "shell", **more: Any
) -> Result:
    """The run of a command in a session of its own."""
    options = {"exec": command} | more.pop("options", {})
    body = {"image": image, "network": network, "options": options} | more
    answer = http.post("/run", json=body)
    assert answer.status_code == 200, answer.text
    return Result(answer.json()["result"])
