"""A program of several files in each language: the default commands build and run it in a jail.

The programs are in tests/runtimes/programs/, one directory for each runtime. Each program prints
5050, the sum of the numbers up to 100, and a line that it reads from standard input; `expected` and
`stdin` in a directory replace these.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from sandboxd.config.settings import Config
from sandboxd.runtimes import load

from ..needs import elsewhere
from ..runtimes.installed import not_available
from ..sandbox import BareWarden, Sandbox, lease

PROGRAMS = Path(__file__).parent.parent / "runtimes" / "programs"
NAMES = sorted(path.name for path in PROGRAMS.iterdir())
RUNTIMES = load(Config())
AVAILABLE = {each.name: each for each in RUNTIMES.describe()}


def test_every_built_in_runtime_has_a_program_of_several_files() -> None:
    assert set(AVAILABLE) == set(NAMES)
    for name in NAMES:
        assert len([*PROGRAMS.joinpath(name).rglob("*.*")]) > 1, name


@pytest.mark.world
@pytest.mark.parametrize("name", NAMES)
def test_program_of_several_files_is_built_and_runs(warden: BareWarden, name: str) -> None:
    if not AVAILABLE[name].available:
        not_available(name, AVAILABLE[name].reason)
    runtime, folder = RUNTIMES.resolve(name), PROGRAMS / name
    sandbox = lease(warden, size=1 << 30, inodes=65536)
    try:
        _put(folder, sandbox)
        result = sandbox.run(
            runtime.exec,
            build=runtime.build,
            stdin=_text(folder, "stdin", "hello\n").encode(),
            environ=dict(runtime.environ),
            memory=2 << 30, pids=256, cpus=2, wall_s=240, runtime=name,
        )  # fmt: skip
        assert result.exit == 0, (result.stdout, result.stderr)
    finally:
        warden.free(sandbox.slot)
    expected = _text(folder, "expected", "5050\nhello\n").split()
    assert result.stdout.split()[-len(expected) :] == expected
    assert result.verdict["denied"] == {}, "an ordinary program asks for nothing forbidden"


DRAW = """python3 -c '
import matplotlib
matplotlib.use("Agg")
from matplotlib import pyplot
pyplot.bar([1, 2], [3, 4])
pyplot.savefig("figure.png")
print(open("figure.png", "rb").read(4)[1:].decode(), matplotlib.matplotlib_fname())'"""

COUNT = """php -r 'session_id("a"); session_start(); $_SESSION["n"] = 41; session_write_close();
session_start(); echo ++$_SESSION["n"];'"""

TOOLS = {
    "Maven": ("/usr/bin/mvn", "mvn -v", "Apache Maven"),
    "matplotlib": (
        "/usr/lib/python3/dist-packages/matplotlib", DRAW, "PNG /etc/matplotlibrc",
    ),
    "R": ("/usr/bin/Rscript", "Rscript -e 'cat(sprintf(\"%.5f\", sd(1:10)))'", "3.02765"),
    "GHC": ("/usr/bin/ghc", "ghc -e 'print (sum [1 .. 100])'", "5050"),
    "Free Pascal": ("/etc/fpc.cfg", "cat /etc/fpc.cfg", "/usr/lib"),
    "PHP sessions": ("/usr/bin/php", COUNT, "42"),
    "PHP extensions": ("/usr/bin/php", "php -m", "tokenizer"),
    "OpenSSL": ("/usr/bin/openssl", "ls /usr/lib/ssl/certs/ /usr/lib/ssl/", "ca-certificates.crt"),
}  # fmt: skip
"""Tool -> its file, a command that needs its files outside /usr, and words of the output."""


@pytest.mark.slow
@pytest.mark.parametrize("name", TOOLS)
def test_tool_finds_its_files_outside_usr(warden: BareWarden, sandbox: Sandbox, name: str) -> None:
    file, command, words = TOOLS[name]
    if not os.path.exists(file):
        elsewhere(f"the host has no {file}")
    result = sandbox.run(command, memory=2 << 30, pids=256, wall_s=120)
    assert (result.exit, words in result.stdout) == (0, True), (result.stdout, result.stderr)


def _text(folder: Path, name: str, usual: str) -> str:
    path = folder / name
    return path.read_text() if path.exists() else usual


def _put(folder: Path, sandbox: Sandbox) -> None:
    """Copy `folder` into the workdir, as files of the session."""
    work = Path(sandbox.slot.scratch) / "work"
    shutil.copytree(folder, work, dirs_exist_ok=True)
    for path in (work, *work.rglob("*")):
        os.chown(path, sandbox.slot.uid, sandbox.slot.gid)
