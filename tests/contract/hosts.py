"""The two hosts of the contract tests, and one language for their programs.

The fake host is the api over the fake warden and shim of tests/api, the real one a daemon that runs
jails. A test that passes on both shows that the fake does what the real one does. The fake runs no
compilers and enforces no limits: tests of these are in tests/e2e.
"""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from ..api.conftest import Server
from ..e2e.conftest import passable
from ..e2e.daemon import running

Act = tuple[str, ...]
"""The next act of a program; the first word is a key of REAL."""

REAL: dict[str, Callable[..., str]] = {
    "out": lambda text: f"printf '%s\\n' {shlex.quote(text)}",
    "err": lambda text: f"printf '%s\\n' {shlex.quote(text)} >&2",
    "exit": lambda code: f"exit {code}",
    "sleep": lambda seconds: f"sleep {seconds}",
    # until this file is in the workdir
    "await": lambda name: f"until [ -e {name} ]; do sleep 0.05; done",
    # wait for a line of input, or for its end
    "ask": lambda: (
        r"""if read -r line; then printf "got '%s\\\\n'\n" "$line"; else echo "got ''"; fi"""
    ),
    "stdin": lambda: "cat",
    "touch": lambda path: f"mkdir -p {Path(path).parent}; echo made > {path}",
    # go on until the wall-clock limit ends the run
    "timeout": lambda: "sleep 600",
}


def fake_program(*acts: Act) -> str:
    """A script of tests/api/fake_shim.py."""
    return "\n".join(" ".join(act) for act in acts)


def real_program(*acts: Act) -> str:
    """A shell script."""
    return "\n".join(REAL[verb](*words) for verb, *words in acts)


@dataclass(frozen=True)
class Host:
    """A daemon, a client of it, and how a program is written there."""

    http: httpx.Client
    new_client: Callable[[], httpx.Client]
    program: Callable[..., str]

    def post(self, session: str, **body: Any) -> httpx.Response:
        """One call of the execution API."""
        return self.http.post(f"/session/{session}", json=body)

    def call(self, session: str, mode: str, run: str, **options: Any) -> dict[str, Any]:
        """One call, its result."""
        answer = self.post(session, mode=mode, runId=run, options=options)
        assert answer.status_code == 200, answer.text
        result: dict[str, Any] = answer.json()["result"]
        return result

    def follow(self, session: str, run: str, **options: Any) -> list[dict[str, Any]]:
        """All results of a run, from its first call or from where its client is."""
        results = [self.call(session, "batch" if options else "continue", run, **options)]
        while results[-1]["status"] not in ("finished", "exec-timeout"):
            results.append(self.call(session, "continue", run))
        return results

    def upload(self, session: str, name: str) -> None:
        """Put an empty file into the workdir."""
        files = {"src": (name, b"")}
        self.http.post(f"/session/{session}/upload", files=files).raise_for_status()


@contextmanager
def fake_host() -> Iterator[Host]:
    """The api over the fake warden."""
    with tempfile.TemporaryDirectory(prefix="sandboxd-api-") as base:
        server = Server(Path(base))
        yield Host(server.client, server.new_client, fake_program)
        assert server.stop() == 0
        assert "Traceback" not in server.log()


@contextmanager
def real_host() -> Iterator[Host]:
    """A daemon with real jails."""
    with passable() as folder, running(folder) as daemon, daemon.client() as http:
        yield Host(http, daemon.client, real_program)
