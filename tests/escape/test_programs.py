"""Ordinary programs of every runtime of this host work under all restrictions.

The programs are in programs/: threads, processes, pipes, signals, locks, timers, sockets of the
loopback, shared memory. Each of their parts prints its name when it has worked.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from sandboxd.config.settings import Config
from sandboxd.jail import seccomp
from sandboxd.runtimes import ADDITIONAL, load

from ..sandbox import BareWarden, Result, lease

PROGRAMS = {
    # runtime -> file, its parts
    "c": ("main.c", "threads processes signals memory locks ipc waiting sockets files"),
    "cpp": ("main.cpp", "threads waiting exceptions files library"),
    "python": ("main.py", "threads processes signals waiting files library"),
    "nodejs": ("main.js", "processes threads signals sockets files library"),
    "java": ("Main.java", "threads collection compiler processes files sockets faults"),
    "golang": ("main.go", "goroutines processes signals sockets files"),
    "rust": ("main.rs", "threads processes sockets files panics"),
    "perl": ("main.pl", "processes signals files sockets"),
    "ruby": ("main.rb", "threads processes sockets files"),
    "lua": ("main.lua", "processes files library"),
    "php": ("main.php", "processes sockets files"),
    "shell": ("main.sh", "processes signals files"),
}
RUNTIMES = load(Config())


def build_and_run(warden: BareWarden, name: str, file: str, text: str, build: str = "") -> Result:
    """Run the default commands of the runtime, as for a client's "*"."""
    described = next(r for r in RUNTIMES.describe() if r.name == name)
    if not described.available:
        pytest.skip(described.reason)  # the runtime is then not offered either
    runtime = RUNTIMES.resolve(name)
    sandbox = lease(warden, size=1 << 30, inodes=65536)
    try:
        return sandbox.run(
            runtime.exec,
            clean=f"cat > {file} <<'PROGRAM'\n{text}\nPROGRAM\n",
            build=build or runtime.build or None,
            environ=dict(runtime.environ),
            memory=2 << 30, pids=256, cpus=2, wall_s=120, runtime=name,
        )  # fmt: skip
    finally:
        warden.free(sandbox.slot)


@pytest.mark.parametrize("name", PROGRAMS)
def test_program_of_each_runtime_is_built_and_works(warden: BareWarden, name: str) -> None:
    file, parts = PROGRAMS[name]
    text = Path(__file__).with_name("programs").joinpath(file).read_text()
    result = build_and_run(warden, name, file, text)
    assert (result.stdout.split(), result.exit) == (parts.split(), 0), result.stderr
    assert result.verdict["denied"] == {}, "an ordinary program asks for nothing forbidden"


def test_every_built_in_runtime_has_a_program() -> None:
    """The programs of further languages are in test_languages.py."""
    assert {one.name for one in RUNTIMES.describe()} - ADDITIONAL == set(PROGRAMS)


LEAK = "#include <stdlib.h>\nint main(void) { return malloc(9) == NULL; }"
SANITIZED = "gcc -fsanitize=address,undefined -o main main.c"


def test_program_built_with_sanitizers_works(warden: BareWarden) -> None:
    result = build_and_run(warden, "c", "main.c", LEAK, SANITIZED)
    assert result.exit == 0, result.stderr


def test_leak_sanitizer_finds_leaks_in_a_runtime_that_may_trace(
    warden: BareWarden, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a runtime of the configuration with seccomp_allow = ["ptrace"] would."""
    find = f"{SANITIZED} && LSAN_OPTIONS=detect_leaks=1 ./main"
    refused = build_and_run(warden, "c", "main.c", LEAK, find)
    assert refused.events[1]["verdict"]["denied_syscall"] == "ptrace"
    monkeypatch.setitem(warden.resources.filters, "c", seccomp.compile(allow=("ptrace",)))
    traced = build_and_run(warden, "c", "main.c", LEAK, find)
    assert "9 byte(s) leaked" in traced.stderr and traced.events[1]["verdict"]["denied"] == {}
