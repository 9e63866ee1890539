"""The official clients, unmodified, each in an environment of its own, against a daemon that takes
signed requests only. Their exit status says little, so the tests look at their output. Every test
of `client` is done with each version of the Python client."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ...needs import elsewhere, missing
from ..daemon import ROOT, Daemon
from ..own_leaks import leaks

CONFIG = "[sessions]\nbatch_keep_s = 5\n"
NOT_HERE = 3
"""Exit status of scripts/clients when the host lacks what the client runs on."""

VERSIONS = {"23.9.10": "Python 3.11", "26.9.6": "Python 3.13"}
"""Versions of the Python client, and what they need."""

_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Printed:
    """The output of a command, without colours, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Both streams."""
        return self.out + self.err


@dataclass(frozen=True)
class Client:
    """The client with a keypair; `folder` is its home and where it stands."""

    python: str
    folder: Path
    environ: dict[str, str]

    def __call__(self, *args: str, input: str = "", cwd: Path | None = None) -> Printed:
        """Run `backend.ai ARGS`."""
        done = subprocess.run(
            [f"{Path(self.python).parent}/backend.ai", *args],
            cwd=cwd or self.folder, env=self.environ, input=input, text=True,
            capture_output=True, timeout=60,
        )  # fmt: skip
        return Printed(
            done.returncode, _COLOURS.sub("", done.stdout), _COLOURS.sub("", done.stderr)
        )

    def begin(self, *args: str) -> subprocess.Popen[str]:
        """Start `backend.ai ARGS`, with pipes."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [f"{Path(self.python).parent}/backend.ai", *args],
            cwd=self.folder, env=self.environ, stdin=pipe, stdout=pipe, stderr=pipe, text=True,
        )  # fmt: skip


def installed(version: str, needs: str) -> str:
    """Where a client is, after it was installed if need be; skips where it cannot run."""
    command = [str(ROOT / "scripts" / "clients"), version]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=600)
    if result.returncode == NOT_HERE:
        absent = missing if version == "npm" else elsewhere
        absent(f"the client {version} needs {needs}, which this host does not have")
    assert result.returncode == 0
    return result.stdout.strip()


@pytest.fixture(
    scope="session", params=["23.9.10", pytest.param("26.9.6", marks=pytest.mark.world)]
)
def version(request: pytest.FixtureRequest) -> str:
    """The version of the client."""
    return str(request.param)


@pytest.fixture(scope="session")
def client_python(version: str) -> str:
    """The client's interpreter."""
    return installed(version, VERSIONS[version])


@pytest.fixture(scope="package")
def daemon() -> Iterator[Daemon]:
    """A daemon on the loopback that asks for signatures."""
    before = leaks()
    # not in pytest's own directory, which each of its sessions closes to others
    with tempfile.TemporaryDirectory(prefix="sandboxd-clients-") as folder:
        os.chmod(folder, 0o711)
        daemon = Daemon(Path(folder), CONFIG)
        daemon.start("--auth", "keypair")
        yield daemon
        assert daemon.stop() == 0
    assert leaks() <= before


def keypair(daemon: Daemon, *options: str) -> dict[str, str]:
    """A new keypair, as an operator makes one."""
    result = subprocess.run(
        [sys.executable, "-P", "-m", "sandboxd", "keypair", "create", "--json", *options,
         "--state-dir", str(daemon.state)],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    keypair: dict[str, str] = json.loads(result.stdout)
    return keypair


def client_of(python: str, daemon: Daemon, folder: Path, *options: str) -> Client:
    """A client with a new keypair of its own."""
    keys = keypair(daemon, *options)
    environ = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "XDG_STATE_HOME": str(folder / "state"),
        "LANG": "C.UTF-8", "PYTHONIOENCODING": "utf-8", "COLUMNS": "250", "PYTHONUNBUFFERED": "1",
        "BACKEND_ENDPOINT": daemon.url, "BACKEND_ENDPOINT_TYPE": "api",
        "BACKEND_ACCESS_KEY": keys["access_key"], "BACKEND_SECRET_KEY": keys["secret_key"],
    }  # fmt: skip
    return Client(python, folder, environ)


@pytest.fixture(scope="package")
def client(client_python: str, daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Client:
    """The client of the tests' user."""
    return client_of(client_python, daemon, tmp_path_factory.mktemp("user"))
