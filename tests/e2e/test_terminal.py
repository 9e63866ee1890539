"""Terminals of a real daemon, with the programs that people use on them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from sandboxd.host import procfs

from ..processes import descendants, titles
from ..waiting import steady, until
from .daemon import Daemon, run, running
from .terminals import PROMPT, WAITING, connected, sit
from .test_stream import resident

Make = Callable[..., str]


def has(program: str) -> pytest.MarkDecorator:
    return pytest.mark.needs(program)


def test_a_person_works_at_a_shell(daemon: Daemon, http: httpx.Client, session: Make) -> None:
    id = session()
    with sit(daemon, id) as screen:
        screen.send("resize", rows=40, cols=100)
        screen.type("tty; stty size; echo $TERM $HOME; id -un\n")
        screen.until("id -un\r\n\x1b[?2004l\r")
        lines = screen.until(PROMPT).split("\r\n")
        assert lines[:4] == ["/dev/pts/0", "40 100", "xterm-256color /home/work", "work"]
        screen.type(WAITING)
        screen.until("waiting")
        screen.type(b"\x03")
        screen.until("^C")
        screen.until(PROMPT)
        screen.type("echo $?; cat > made\n")
        screen.until("130\r\n")
        screen.type("of the terminal\n\x04")
        screen.until(PROMPT)
        assert run(http, id, {"exec": "cat made; tty"}).text("stdout") == (
            "of the terminal\nnot a tty\n"
        )
        screen.type("echo \u00e9\u00e9\x7f | od -An -c; exit 5\n")
        screen.until("303 251  \\n")
        (end,) = screen.to_the_end()
    assert (end["exitCode"], end["verdict"]["outcome"]) == (5, "failure")


@has("less")
def test_pager_in_a_terminal_shows_the_page_that_a_key_names(daemon: Daemon, session: Make) -> None:
    with sit(daemon, session()) as screen:
        screen.send("resize", rows=10, cols=40)
        screen.type("seq 1000 | less\n")
        screen.until("9\r\n")
        screen.type("G")
        screen.until("1000")
        screen.type("q")
        screen.until(PROMPT)


def test_python_can_be_spoken_with(daemon: Daemon, session: Make) -> None:
    with sit(daemon, session("python")) as screen:
        screen.type("/usr/bin/python3 -q\n")
        screen.until(">>> ")
        screen.type("import os; 6 * 7, os.isatty(0), os.get_terminal_size()\n")
        screen.until("(42, True, os.terminal_size(columns=80, lines=24))")
        screen.type("for _ in [print('lo' 'op')]:\n while True: pass\n\n")
        screen.until("loop")
        screen.type(b"\x03")
        screen.until("KeyboardInterrupt")
        screen.type("'re' 'ady'\n")
        screen.until("'ready'")
        screen.until(">>> ")
        screen.type(b"\x04")
        screen.until(PROMPT)


@has("tmux")
def test_a_terminal_within_the_terminal(daemon: Daemon, session: Make) -> None:
    with sit(daemon, session()) as screen:
        screen.type("tmux -f /dev/null new -s x 'tty; read a; echo got $a; sleep 1'\n")
        screen.until("/dev/pts/1")
        screen.type("line\n")
        screen.until("got line")
        screen.until("[exited]")


def test_restart_ends_a_shell_that_hangs_with_all_that_it_started(
    daemon: Daemon, http: httpx.Client, session: Make
) -> None:
    id = session()
    with sit(daemon, id) as screen:
        screen.send("resize", rows=33, cols=99)
        screen.type("setsid sh -c 'sleep 1; echo alive > late' & stty -isig; cat\n")
        screen.until("cat\r\n")
        screen.send("restart")
        screen.type("stty size; ps -e | grep -c sleep\n")
        screen.until("33 99\r\n")
        screen.until("0\r\n")
        screen.type("sleep 1.2; ls\n")
        screen.until("ls\r\n")
        assert "late" not in screen.until(PROMPT)
    assert http.get(f"/session/{id}").status_code == 200


def test_every_byte_survives_both_ways(daemon: Daemon, session: Make) -> None:
    everything = bytes(range(256)) * 40
    with sit(daemon, session()) as screen:
        screen.type("stty raw -echo; echo on; head -c 10240; stty sane\n")
        screen.until("\ron\n")
        screen.type(everything)
        while len(screen.shown) < len(everything):
            screen.read()
        assert screen.shown.startswith(everything)


def test_a_flood_to_a_slow_reader_is_held_back_and_costs_bounded_memory(
    daemon: Daemon, session: Make
) -> None:
    with sit(daemon, session()) as screen:
        screen.type("yes $(seq 100)\n")
        screen.until("1 2 3")
        before = sum(resident(daemon, "api"))
        assert steady(lambda: spent_by(daemon, "yes"), why="it goes on although nobody reads")
        assert sum(resident(daemon, "api")) - before < 16 << 20
        assert max(resident(daemon, "shim")) < 40 << 20
        screen.type(b"\x03")
        screen.until("^C")
        screen.until(PROMPT)


def spent_by(daemon: Daemon, name: str) -> dict[int, list[str]]:
    """CPU ticks, in user mode and in the kernel, of all programs of that name in its sandboxes."""
    assert daemon.process
    stats = {pid: procfs.text(f"/proc/{pid}/stat") for pid in descendants(daemon.process.pid, name)}
    return {pid: stat.rpartition(")")[2].split()[11:13] for pid, stat in stats.items()}


def test_input_that_nothing_reads_does_not_shut_out_a_restart(
    daemon: Daemon, session: Make
) -> None:
    with sit(daemon, session()) as screen:
        screen.type("stty raw -echo; echo on; sleep 60\n")
        screen.until("\ron\n")
        for _ in range(4):
            screen.type(b"x" * (512 << 10))
        while not screen.others:
            screen.read()
        assert "bytes of input were dropped" in screen.others[0]["data"]
        screen.send("restart")
        screen.until(PROMPT)


def test_leaving_ends_everything_on_it(daemon: Daemon, http: httpx.Client, session: Make) -> None:
    id, mark = session(), f"611.{os.getpid()}"
    with sit(daemon, id) as screen:
        screen.type(f"(trap '' HUP; sleep {mark}) & nohup sleep {mark} &\n")
        screen.until(PROMPT)
        screen.type(f"setsid sleep {mark}\n")
        until(lambda: with_argument(mark) == 3)
    until(lambda: not http.get(f"/session/{id}").json()["sandbox"]["terminals"])
    assert not with_argument(mark)


def with_argument(word: str) -> int:
    """How many programs sleep for that time."""
    return sum(title.split("\0") == ["sleep", word] for title in titles("sleep").values())


@pytest.mark.parametrize("method", ["DELETE", "PATCH"])
def test_terminal_ends_with_its_session(
    daemon: Daemon, http: httpx.Client, session: Make, method: str
) -> None:
    id = session()
    with sit(daemon, id) as screen:
        screen.type("trap '' HUP TERM INT; while :; do sleep 0.1; done\n")
        screen.until("done\r\n")
        assert http.request(method, f"/session/{id}").status_code < 300
        error, end = screen.to_the_end()
    assert "the session" in error["data"] and end["type"] == "end"


def test_terminal_without_input_is_closed_and_says_so(folder: Path) -> None:
    with running(folder, "[terminal]\nidle_s = 1.5\n") as daemon, daemon.client() as http:
        id = http.post("/session", json={"image": "c"}).json()["sessionId"]
        with connected(daemon, id) as screen:
            error, end = screen.to_the_end()
        assert error["data"] == "closed after 1.5 s without input"
        assert end["type"] == "end"
        assert http.delete(f"/session/{id}").status_code == 200


def test_pings_keep_a_terminal_open_until_its_wall_time_is_over(folder: Path) -> None:
    config = "[terminal]\nidle_s = 6\nwall_s = 8\n"
    with running(folder, config) as daemon, daemon.client() as http:
        id = http.post("/session", json={"image": "c"}).json()["sessionId"]
        with connected(daemon, id) as screen:
            with contextlib.suppress(ConnectionClosed):
                while True:
                    screen.send("ping")
                    with contextlib.suppress(TimeoutError):
                        screen.read(0.2)
            error, end = screen.to_the_end()
        assert "8 s" in error["data"]
        assert (end["exitCode"], end["verdict"]["limit"]) == (None, "wall_s")
        assert http.delete(f"/session/{id}").status_code == 200


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_daemon_that_ends_takes_its_terminals_with_it(folder: Path, how: str) -> None:
    with running(folder) as daemon, daemon.client() as http:
        id = http.post("/session", json={"image": "c"}).json()["sessionId"]
        mark = f"622.{os.getpid()}"
        with sit(daemon, id) as screen:
            screen.type(f"trap '' HUP; sleep {mark}\n")
            until(lambda: with_argument(mark) == 1)
            if how == "stopped":
                assert daemon.stop() == 0
            else:
                daemon.end("warden")
            with pytest.raises(ConnectionClosed):
                while True:
                    screen.read()
        until(lambda: not with_argument(mark), why="it survives its daemon")
        if how == "killed":
            daemon.start()  # and what the killed one has left is taken back
