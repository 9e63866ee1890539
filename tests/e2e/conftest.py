"""One daemon for all end-to-end tests that do not stop it."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..http_clients import unix_client
from ..waiting import until
from .daemon import OURS, Daemon, running, slots_in_use
from .own_leaks import leaks
from .waiting_jails import Start

RUN = re.compile(r"sandboxd: (shim|init|files)|/slots/")
"""The processes and mounts of a run, a file call or a session."""


@contextmanager
def passable() -> Iterator[Path]:
    """A directory that others may pass through, as the api must; pytest's own are closed."""
    with tempfile.TemporaryDirectory(prefix=OURS) as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder


@pytest.fixture
def folder() -> Iterator[Path]:
    with passable() as directory:
        yield directory


@pytest.fixture(scope="module")
def daemon(request: pytest.FixtureRequest) -> Iterator[Daemon]:
    """A daemon with the configuration CONFIG of the module, if the module has one."""
    config = getattr(request.module, "CONFIG", "")
    with passable() as directory, running(directory, config) as started:
        yield started


@pytest.fixture
def lasting(daemon: Daemon) -> Iterator[None]:
    """The daemon of the module serves before each test, and has no session of the test after it.

    For tests that end it and start it again, which costs half as much as a daemon of their own, and
    for tests whose sessions would be in the way of the next test if they failed.
    """
    if daemon.process is None:
        daemon.start()
    yield
    daemon.purge()
    until(lambda: not slots_in_use(daemon.state))
    until(lambda: not {line for line in leaks() if RUN.search(line)})


@pytest.fixture
def http(daemon: Daemon) -> Iterator[httpx.Client]:
    with daemon.client() as client:
        yield client


@pytest.fixture
def root(daemon: Daemon) -> Iterator[httpx.Client]:
    """Root at the Unix socket."""
    with unix_client(f"{daemon.folder}/api.sock") as client:
        yield client


@pytest.fixture
def session(http: httpx.Client) -> Iterator[Callable[..., str]]:
    """Makes sessions that are deleted after the test."""
    ids: list[str] = []

    def make(image: str = "c", **config: Any) -> str:
        answer = http.post("/session", json={"image": image, "config": config})
        assert answer.status_code == 201, answer.text
        ids.append(answer.json()["sessionId"])
        return ids[-1]

    yield make
    for id in ids:
        assert http.delete(f"/session/{id}").status_code in (200, 404)


@pytest.fixture(scope="module")
def configured() -> Iterator[Callable[[str], Daemon]]:
    """The daemon with a configuration: another one is started only where that is another one than
    before. Two daemons at once would want the same uids."""
    current: list[tuple[str, str, Daemon]] = []
    with contextlib.ExitStack() as stack:

        def configured(config: str) -> Daemon:
            if not current or current[0][:2] != (config, read(current[0][2])):
                stack.close()
                daemon = stack.enter_context(running(stack.enter_context(passable()), config))
                current[:] = [(config, read(daemon), daemon)]
            return current[0][2]

        def read(daemon: Daemon) -> str:
            """Its configuration now, which a test may have changed."""
            return (daemon.folder / "config.toml").read_text()

        yield configured


@pytest.fixture
def start(configured: Callable[[str], Daemon]) -> Iterator[Start]:
    """A daemon with a configuration, and one session, `kept`. Its sessions end with the test."""
    with contextlib.ExitStack() as stack:

        def begin(config: str) -> tuple[Daemon, httpx.Client]:
            daemon = configured(config)
            http = stack.enter_context(daemon.client())
            stack.callback(daemon.purge)
            assert http.post("/session", json={"image": "c", "name": "kept"}).status_code == 201
            return daemon, http

        yield begin
