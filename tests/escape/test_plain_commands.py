"""Commands that init executes without a shell: the program meets all that it meets with one."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from sandboxd.shim import plain_command
from sandboxd.wire import messages

from ..sandbox import Sandbox

FILES = r"""
printf '#!/bin/sh\nprintf "%%s|" "$0" "$@"\n' > script; chmod 755 script
printf 'echo "no interpreter named: $1"\n' > text; chmod 755 text
cp script closed; chmod 644 closed
mkdir -p directory .local/bin; cp script .local/bin/own
printf '#!/bin/no-such-interpreter\n' > lost; chmod 755 lost
printf '#!/bin/sh\nkill -SEGV $$\n' > dies; chmod 755 dies
printf '#!/bin/sh\nexit 3\n' > three; chmod 755 three
printf '#!/bin/sh\nhead -c 1M /dev/zero > f\n' > large; chmod 755 large
"""

COMMANDS = (
    "./script", "./script a b=c  d:e", "own x", "./text word", "./closed", "./directory", "./lost",
    "./dies", "./three", "./absent", "absent", "/usr/bin/env", "env", "env A=b env",
    "cat /proc/self/cmdline /proc/self/comm", "cat /proc/self/status", "readlink /proc/self/cwd",
    "ls -l /proc/self/fd", "cat", "./large", "sh -c env", "grep -c processor /proc/cpuinfo",
)  # fmt: skip


def outcome(sandbox: Sandbox, command: str, **more: Any) -> tuple[object, ...]:
    """All that a client sees of a run, without what differs from run to run."""
    result = sandbox.run(command, stdin=b"input\n", **more)
    lines = [line for line in result.stdout.splitlines() if not line.startswith(CHANGING)]
    verdict = {key: result.verdict[key] for key in ("reason", "limit", "signal", "exit", "advice")
               if key in result.verdict}  # fmt: skip
    return sorted(lines), result.stderr, result.exit, verdict


CHANGING = (
    "Vm", "Rss", "Pid:", "Tgid:", "Ngid", "NSpid", "NSpgid", "NStgid", "NSsid", "voluntary",
    "nonvoluntary", "lr-x", "l-wx", "lrwx", "Cpus_allowed", "Mems", "total",
)  # fmt: skip


@pytest.mark.parametrize("limits", [{}, {"nofile": 100}], ids=["spawned", "forked"])
def test_program_without_a_shell_meets_what_it_meets_with_one(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, limits: dict[str, int]
) -> None:
    sandbox.run(FILES)
    lower = {"exec": limits}
    direct = {command: outcome(sandbox, command, per_step=lower) for command in COMMANDS}
    with monkeypatch.context() as shell_only:
        shell_only.setattr(plain_command, "argv", lambda *_: [])
        sandbox.end_warm()
        with_shell = {command: outcome(sandbox, command, per_step=lower) for command in COMMANDS}
        sandbox.end_warm()
    for command in COMMANDS:
        assert direct[command] == with_shell[command], command


def test_plain_command_needs_no_shell(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    send = messages.send

    def send_without_shell(sock: socket.socket, message: dict[str, Any], *rest: Any) -> None:
        if "argv" in message:
            message["argv"][0] = "/bin/absent"
        send(sock, message, *rest)

    monkeypatch.setattr(messages, "send", send_without_shell)
    assert sandbox.run("cat /proc/self/comm").stdout == "cat\n"
    assert sandbox.run("cat /proc/self/comm;").last["event"] == "fault"
