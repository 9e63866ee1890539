"""A program on a terminal of its own: prompts come before the question, and the rest stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandboxd.shim import terminal

from ..sandbox import Sandbox

C = r"""
#include <stdio.h>
int main(void) {
    int number;
    printf("number? ");
    if (scanf("%d", &number) != 1) return 9;
    printf("twice: %d\n", 2 * number);
    return 0;
}
"""
COMPILED = f"cat > main.c <<'EOF'\n{C}EOF\ngcc -o main main.c"
PERL = """perl -e 'print "number? "; $n = <STDIN>; print "twice: ", 2 * $n, "\\n"'"""
RUBY = """ruby -e 'print "number? "; n = gets.to_i; print "twice: ", 2 * n, "\\n"'"""
AWK = """awk 'BEGIN { printf "number? "; getline n < "-"; print "twice: " 2 * n }'"""
PYTHON = """/usr/bin/python3 -c 'print("number? ", end=""); print("twice:", 2 * int(input()))'"""


def console(sandbox: Sandbox) -> bytes:
    """The spool of the run that goes on."""
    return Path(f"{sandbox.slot.run_path(sandbox.runs)}/console").read_bytes()


@pytest.mark.parametrize(
    ("program", "build"),
    [
        pytest.param("./main", COMPILED, marks=pytest.mark.needs("gcc"), id="c"),
        pytest.param(PERL, None, marks=pytest.mark.needs("perl"), id="perl"),
        pytest.param(RUBY, None, marks=pytest.mark.needs("ruby"), id="ruby"),
        pytest.param(AWK, None, marks=pytest.mark.needs("awk"), id="awk"),
        pytest.param(PYTHON, None, id="python"),
    ],
)
def test_prompt_is_there_before_the_question(
    sandbox: Sandbox, program: str, build: str | None
) -> None:
    prompted: list[bool] = []
    result = sandbox.run(
        program, build=build, answers=["21\n"], interactive=True, memory=512 << 20,
        on_wait=lambda _: prompted.append(b"number? " in console(sandbox)),
    )  # fmt: skip
    assert prompted == [True]
    assert result.stdout == "number? twice: 42\n"
    assert (result.exit, result.stderr) == (0, "")
    assert result.verdict["usage"]["stdout_bytes"] == len(result.stdout)


def test_exec_alone_has_a_terminal_and_standard_error_stays_a_pipe(sandbox: Sandbox) -> None:
    show = "for n in 0 1 2; do [ -t $n ] && printf $n; done"
    result = sandbox.run(
        f"{show}; echo; tty; stty size; tty < /dev/tty; echo to-stderr >&2",
        build=f"{show}; echo build", interactive=True,
    )  # fmt: skip
    assert result.stdout == "build\n01\n/dev/pts/0\n24 80\n/dev/tty\n"
    assert result.stderr == "to-stderr\n"


def test_without_the_option_there_is_no_terminal(sandbox: Sandbox) -> None:
    result = sandbox.run("for n in 0 1 2; do [ -t $n ] && echo $n; done; true")
    assert (result.stdout, result.exit) == ("", 0)


def test_input_and_output_are_unchanged_bytes(sandbox: Sandbox) -> None:
    """Neither Ctrl-C nor erase, neither carriage returns nor an echo: the settings are not those of
    a person's terminal."""
    odd = "".join(chr(code) for code in range(1, 128) if code not in (4, 10))
    result = sandbox.run("head -n 1 | od -An -v -tx1", answers=[f"{odd}\n"], interactive=True)
    assert bytes.fromhex(result.stdout).decode() == f"{odd}\n"
    assert result.exit == 0
    printed = sandbox.run(r"printf 'a\r\nb\tc\n\001\177'", interactive=True)
    assert printed.stdout == "a\r\nb\tc\n\x01\x7f"


def test_end_of_input_comes_after_the_last_text_and_stays(sandbox: Sandbox) -> None:
    """Each program of the step reads it, as with a pipe, and a text without a newline arrives."""
    result = sandbox.run(
        "read a; cat; cat; read b || echo end; echo $a", answers=["x\n", "rest", None],
        interactive=True, wall_s=10,
    )  # fmt: skip
    assert (result.stdout, result.exit) == ("restend\nx\n", 0)


def test_long_input_and_long_output_arrive_whole(sandbox: Sandbox) -> None:
    text = "".join(f"line {number}\n" for number in range(15_000))
    result = sandbox.run("sleep 0.3; cat", answers=[text, None], interactive=True)
    assert result.stdout == text
    result = sandbox.run("head -c 3M /dev/zero | tr '\\0' x; printf end >&2", interactive=True)
    assert result.stdout == "x" * (3 << 20)
    assert (result.stderr, result.verdict["usage"]["stdout_bytes"]) == ("end", 3 << 20)


def test_last_output_of_a_program_that_is_killed_is_there(sandbox: Sandbox) -> None:
    result = sandbox.run("head -c 60K /dev/zero | tr '\\0' x; kill -9 $$", interactive=True)
    assert len(result.stdout) == 60 << 10
    assert (result.verdict["signal"], result.verdict["sent_by"]) == ("SIGKILL", "program")


def test_limits_and_verdicts_are_those_of_every_run(sandbox: Sandbox) -> None:
    endless = sandbox.run("while :; do :; done", interactive=True, wall_s=0.5)
    assert endless.verdict["limit"] == "wall_s"
    flood = sandbox.run("yes", interactive=True, wall_s=1, output=1000)
    assert (flood.verdict["limit"], len(flood.stdout)) == ("wall_s", 1000)
    assert flood.verdict["usage"]["cut_bytes"] > 1000


def test_question_on_dev_tty_is_seen_and_answered(sandbox: Sandbox) -> None:
    result = sandbox.run(
        "printf 'password: ' > /dev/tty; read x < /dev/tty; echo got $x", answers=["secret\n"],
        interactive=True,
    )  # fmt: skip
    assert (result.stdout, result.waited) == ("password: got secret\n", 1)


def test_program_that_computes_beside_a_waiting_thread_cannot_stop_the_clock(
    sandbox: Sandbox,
) -> None:
    program = (
        "import sys, threading\n"
        "threading.Thread(target=sys.stdin.readline, daemon=True).start()\n"
        "while True: pass"
    )
    command = f"/usr/bin/python3 -c '{program}'"
    result = sandbox.run(command, interactive=True, wall_s=4, cpu_s=60)
    assert result.waited >= 1
    assert result.verdict["limit"] == "wall_s"


def test_program_with_lowered_rlimits_is_on_the_terminal_too(sandbox: Sandbox) -> None:
    """Such a step is forked instead of spawned."""
    result = sandbox.run(
        "test -t 0 -a -t 1 && ! test -t 2 && ulimit -n", interactive=True,
        per_step={"exec": {"nofile": 100}},
    )  # fmt: skip
    assert result.stdout == "100\n"


def test_terminal_cannot_be_typed_into(sandbox: Sandbox) -> None:
    """TIOCSTI would let a program answer the question of another."""
    inject = "/usr/bin/python3 -c \"import fcntl; fcntl.ioctl(0, 0x5412, b'x')\" 2>&1 | tail -1"
    assert "Operation not permitted" in sandbox.run(inject, interactive=True).stdout


def test_terminal_that_is_not_the_jails_own_is_a_fault(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "PTS", "/dev")
    event = sandbox.run("echo never", interactive=True).last
    assert (event["event"], event["stage"]) == ("fault", "terminal")
