"""A program that waits for its user is seen to, whatever it waits with; no other is."""

from __future__ import annotations

import os
import selectors
import time

import pytest

from sandboxd.shim.stdin import PENDING_MAX, Stdin

from ..sandbox import Sandbox
from ..waiting import PATIENCE_S, until

PYTHON = "/usr/bin/python3 -c"


@pytest.mark.parametrize(
    "program",
    [
        "read x; echo got $x",
        "x=$(head -n 1); echo got $x",
        f"{PYTHON} 'print(\"got\", input())'",
        f"{PYTHON} 'import os; print(\"got\", os.read(0, 99).decode())'",
        f"{PYTHON} 'import select, os; select.select([0], [], []); print(\"got\", os.read(0, 9))'",
        f"{PYTHON} 'import select, os; p = select.poll(); p.register(0); p.poll(); "
        "print(\"got\", os.read(0, 9).decode())'",
        f"{PYTHON} 'import select, os; select.select([0], [], [], 9); "
        "print(\"got\", os.read(0, 9))'",
        f"{PYTHON} 'import select, os; p = select.poll(); p.register(0); p.poll(9000); "
        "print(\"got\", os.read(0, 9).decode())'",
        f"{PYTHON} 'import select, os; p = select.epoll(); p.register(0); p.poll(9); "
        "print(\"got\", os.read(0, 9).decode())'",
        f"{PYTHON} 'import threading\n"
        "t = threading.Thread(target=lambda: print(\"got\", input())); t.start(); t.join()'",
        f"{PYTHON} 'import asyncio, os\nasync def main():\n    f = asyncio.Future()\n"
        "    answer = lambda: f.done() or f.set_result(os.read(0, 9))\n"
        "    asyncio.get_event_loop().add_reader(0, answer)\n"
        "    print(\"got\", (await f).decode())\nasyncio.run(main())'",
        f"{PYTHON} 'import os; r, w = os.pipe(); os.splice(0, w, 99); "
        "print(\"got\", os.read(r, 99).decode())'",
        f"{PYTHON} 'import os; b = bytearray(9); os.preadv(0, [b], -1); "
        "print(\"got\", b.decode())'",
        f"{PYTHON} 'import ctypes, os, select; e = select.epoll(); e.register(0); "
        "ctypes.CDLL(None).epoll_pwait2(e.fileno(), ctypes.create_string_buffer(99), 1, None, None)"
        "; print(\"got\", os.read(0, 99).decode())'",
    ],
    ids=[
        "sh", "subshell", "input", "read", "select", "poll", "select-9s", "poll-9s", "epoll-9s",
        "thread", "epoll", "splice", "preadv2", "epoll_pwait2",
    ],
)  # fmt: skip
def test_waiting_program_is_answered(sandbox: Sandbox, program: str) -> None:
    result = sandbox.run(program, answers=["hello\n"], wall_s=60)
    assert result.waited >= 1
    assert "got" in result.stdout
    assert "hello" in result.stdout
    assert result.exit == 0


@pytest.mark.needs("node")
def test_waiting_node_is_answered(sandbox: Sandbox) -> None:
    program = "process.stdin.once('data', d => { console.log('got ' + d); process.exit(3) })"
    result = sandbox.run(
        f'/usr/bin/node -e "{program}"', answers=["hello\n"], memory=1 << 30, wall_s=60
    )
    assert result.stdout == "got hello\n\n"
    assert result.exit == 3


@pytest.mark.parametrize(
    "program",
    ["sleep 0.5", "sleep 0.5 | cat", "for i in 1 2 3 4 5; do echo $i; sleep 0.1; done",
     "cat /dev/zero | head -c 1M | wc -c; sleep 0.3",
     f"{PYTHON} 'import select; [select.select([0], [], [], 0.5) for _ in range(3)]'",
     f"{PYTHON} 'import select; p = select.poll(); p.register(0); p.poll(1500)'"],
)  # fmt: skip
def test_busy_program_is_not_taken_for_a_waiting_one(sandbox: Sandbox, program: str) -> None:
    assert sandbox.run(program).waited == 0


COMPUTES = (
    "import sys, threading\n"
    "threading.Thread(target=sys.stdin.readline, daemon=True).start()\n"
    "while True: pass"
)


def test_program_that_computes_beside_a_waiting_thread_cannot_stop_the_clock(
    sandbox: Sandbox,
) -> None:
    result = sandbox.run(f"{PYTHON} '{COMPUTES}'", wall_s=10, cpu_s=60)
    assert result.waited >= 1  # clients get the question nevertheless
    assert (result.verdict["outcome"], result.verdict["limit"]) == ("limit", "wall_s")
    assert result.verdict["sent_by"] == "sandboxd"


JAVA = """
public class Main {
    public static void main(String[] arguments) throws Exception {
        System.out.println("got " + new java.util.Scanner(System.in).nextLine());
    }
}
"""
NODE = "setInterval(() => {}, 6000); process.stdin.once('data', d => process.exit(3))"


@pytest.mark.parametrize(
    ("program", "code"),
    [
        pytest.param(f"{PYTHON} 'input(); exit(3)'", 3, id="python"),
        pytest.param(f'node -e "{NODE}"', 3, marks=pytest.mark.needs("node"), id="node"),
        pytest.param(
            f"echo '{JAVA}' > Main.java; java Main.java > /dev/null; exit 3", 3,
            marks=pytest.mark.needs("java"), id="java",
        ),
    ],
)  # fmt: skip
def test_clock_stands_still_for_a_waiting_program_with_timers(
    sandbox: Sandbox, program: str, code: int
) -> None:
    """The limit is four times the time that the program needs to start on this machine, and three
    seconds: the machine may be busier at the second start."""
    first = sandbox.run(program, answers=["hello\n"], memory=1 << 30, wall_s=300, pids=200)
    limit_s = first.verdict["usage"]["wall_ms"] // 250 + 3

    def think(_: object) -> None:
        answered_at = time.monotonic() + limit_s + 2
        until(lambda: time.monotonic() >= answered_at, limit_s + PATIENCE_S)

    result = sandbox.run(
        program, answers=["hello\n"], on_wait=think, memory=1 << 30, wall_s=limit_s, pids=200
    )
    assert result.exit == code
    assert result.verdict["usage"]["wall_ms"] > limit_s * 1000


def test_several_questions_are_answered_in_order(sandbox: Sandbox) -> None:
    program = "read a; echo 1 $a; read b; echo 2 $b; cat; echo end"
    result = sandbox.run(program, answers=["x\n", "y\n", None])
    assert result.stdout == "1 x\n2 y\nend\n"


def test_given_input_is_read_to_its_end_and_never_waited_for(sandbox: Sandbox) -> None:
    result = sandbox.run("cat; echo end", stdin=b"all of it\n")
    assert (result.stdout, result.waited) == ("all of it\nend\n", 0)


def test_empty_input_is_an_end_of_file(sandbox: Sandbox) -> None:
    assert sandbox.run("cat; echo end", stdin=b"").stdout == "end\n"


def test_more_input_than_a_pipe_holds_arrives_whole(sandbox: Sandbox) -> None:
    text = "line\n" * 30_000
    result = sandbox.run("sleep 0.2; wc -l", answers=[text, None])
    assert result.stdout == "30000\n"


def test_input_that_nobody_reads_is_bounded_and_what_is_dropped_is_counted() -> None:
    stdin = Stdin(selectors.PollSelector())
    stdin.write(b"x" * PENDING_MAX, False)
    for _ in range(3):
        stdin.write(b"y" * 100_000, False)
    assert stdin.dropped == 300_000  # the pipe itself has taken 64 KiB of the first
    stdin.close()
    os.close(stdin.child)
