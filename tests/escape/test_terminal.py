"""A terminal in the jail: a real one, and the only one that its programs can reach."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sandboxd.errors import StageError
from sandboxd.host import procfs
from sandboxd.jail import profile, rootfs, seccomp
from sandboxd.jail.condition import Condition
from sandboxd.jail.mounts import NOEXEC, NOSUID, Bind, Mount, Part
from sandboxd.shim import init, terminal
from sandboxd.warden.slots import uid_processes

from ..processes import files
from ..sandbox import BareWarden, Sandbox
from ..terminal import sit
from ..waiting import PATIENCE_S, until

PYTHON = "/usr/bin/python3 -c"
INJECT = f"{PYTHON} \"import fcntl; fcntl.ioctl(0, 0x5412, b'x')\" 2>&1 | tail -1"
"""TIOCSTI: type for the next reader of the terminal, such as a shell outside of a sandbox."""


def wait_for_program(sandbox: Sandbox, name: str) -> None:
    """Wait until a program of the sandbox runs under this name."""
    uid = str(sandbox.slot.uid)

    def is_there() -> bool:
        for pid in procfs.pids():
            (uids,) = procfs.status(pid, "Uid")
            if uid in uids.split() and procfs.text(f"/proc/{pid}/comm").strip() == name:
                return True
        return False

    until(is_there, why=f"{name} does not start")


def test_shell_leads_a_session_with_a_controlling_terminal_of_the_jails_own(
    sandbox: Sandbox,
) -> None:
    with sit(sandbox) as shell:
        assert shell.do("tty; stty size; tty < /dev/tty") == "/dev/pts/0\n24 80\n/dev/tty\n"
        assert shell.do("ps -o pid= -o sid= -o tty= -p $$").split() == ["2", "2", "pts/0"]
        shell.type("sleep 60\n")
        wait_for_program(sandbox, "sleep")
        shell.type(b"\x1a")  # Ctrl-Z
        assert "Stopped" in shell.do("jobs")
        ended = shell.do("kill %1; fg > /dev/null; echo $?")
        assert ended.endswith("143\n") or "has terminated" in ended  # before it was fetched
        shell.resize(50, 132)
        assert shell.do("stty size") == "50 132\n"
        shell.type("exit 7\n")
        assert shell.to_the_end() == "exit\r\n"
        event = shell.ended()
    assert (event["exit"], event["verdict"]["outcome"]) == (7, "failure")
    assert event["verdict"]["usage"]["stdout_bytes"] > 50


def test_programs_on_a_terminal_have_every_restriction_of_others(sandbox: Sandbox) -> None:
    """The same readings on a terminal and without one."""
    script = (
        "id -u; id -G; grep -E '^(Cap|NoNew|Seccomp)' /proc/self/status; ulimit -a; pwd; umask; "
        "cut -d' ' -f 5- /proc/self/mountinfo | sort; readlink /proc/self/ns/user"
    )
    with sit(sandbox) as shell:
        readings = shell.do(script)
    assert readings == sandbox.run(script).stdout


def test_programs_on_a_terminal_get_three_descriptors_and_all_are_the_terminal(
    sandbox: Sandbox,
) -> None:
    with sit(
        sandbox, f"exec {PYTHON} 'import os; print(sorted(os.listdir(\"/proc/self/fd\")))'"
    ) as it:
        assert it.to_the_end() == "['0', '1', '2', '3']\r\n"  # 3 is the directory itself
    with sit(sandbox, "readlink /proc/self/fd/*") as it:
        assert it.to_the_end().split()[:3] == ["/dev/pts/0"] * 3


def test_program_cannot_type_into_a_terminal_for_another_program(sandbox: Sandbox) -> None:
    with sit(sandbox) as shell:
        assert "Operation not permitted" in shell.do(INJECT)


def conditions_without(ioctl: int) -> tuple[Condition, ...]:
    """The conditions of the filter, but for that of this ioctl."""
    return tuple(
        replace(one, values=tuple(value for value in one.values if value != ioctl))
        for one in profile.CONDITIONS
    )


@pytest.mark.skipif(
    Path("/proc/sys/dev/tty/legacy_tiocsti").exists()
    and Path("/proc/sys/dev/tty/legacy_tiocsti").read_text() == "0\n",
    reason="this kernel refuses TIOCSTI by itself",
)
def test_program_types_into_a_terminal_for_another_without_the_line_of_the_filter(
    warden: BareWarden, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seccomp, "CONDITIONS", conditions_without(0x5412))
    monkeypatch.setattr(warden.resources, "filter", seccomp.compile())
    with sit(sandbox, "stty -echo; exec bash --norc --noediting") as shell:
        assert "Operation not permitted" not in shell.do(INJECT)


def test_line_discipline_can_be_set_without_the_line_of_the_filter(
    warden: BareWarden, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seccomp, "CONDITIONS", conditions_without(0x5423))
    monkeypatch.setattr(warden.resources, "filter", seccomp.compile())
    with sit(sandbox) as shell:
        call = "import fcntl; fcntl.ioctl(0, 0x5423, bytes(4)); print('set')"
        assert shell.do(f'{PYTHON} "{call}"') == "set\n"


def test_terminals_of_other_runs_of_the_session_are_not_seen(sandbox: Sandbox) -> None:
    """Another run of the same session has the same uid, and still its own /dev/pts."""
    with sit(sandbox) as one, sit(sandbox) as two:
        one.do("true")
        assert two.do("tty; ls -1 /dev/pts") == "/dev/pts/0\n0\nptmx\n"
        two.do("echo from the second > /dev/pts/0")
        assert one.do("echo alone") == "alone\n"
        assert sandbox.run("ls /dev/pts; tty; tty < /dev/tty").stdout == "ptmx\nnot a tty\n"


@pytest.fixture
def host_terminal() -> Iterator[tuple[int, str]]:
    """A terminal of the host that anybody may write to: its master, and its name there."""
    master, slave = os.openpty()
    os.set_blocking(master, False)
    os.chmod(slave, 0o666)
    yield master, os.ttyname(slave)
    os.close(slave)
    os.close(master)


def test_terminal_of_the_host_is_out_of_reach(
    sandbox: Sandbox, host_terminal: tuple[int, str]
) -> None:
    master, name = host_terminal
    sandbox.run(f"echo reached > {name}")
    with pytest.raises(BlockingIOError):
        os.read(master, 100)


def test_terminal_of_the_host_is_reached_without_a_devpts_of_its_own(
    sandbox: Sandbox, host_terminal: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def shared(part: Part) -> Part:
        host = Bind("/dev/pts", "/dev/pts", NOSUID | NOEXEC)
        return host if isinstance(part, Mount) and part.path == "/dev/pts" else part

    system = rootfs.system
    monkeypatch.setattr(rootfs, "system", lambda *a: [shared(part) for part in system(*a)])
    master, name = host_terminal
    sandbox.run(f"echo reached > {name}")
    assert os.read(master, 100) == b"reached\r\n"


def test_terminal_that_is_not_of_the_runs_devpts_stops_the_run(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "PTS", "/dev/shm")  # the terminal is not below it
    with sit(sandbox, "echo ran") as it:
        assert it.to_the_end() == ""
        event = it.ended()
    assert (event["event"], event["stage"]) == ("fault", "terminal")
    with pytest.raises(StageError, match="file system"):
        terminal._verify(os.open("/dev/null", os.O_RDWR), "/dev/shm/0")


def test_programs_can_make_terminals_of_their_own(sandbox: Sandbox) -> None:
    with sit(sandbox) as shell:
        assert "/dev/pts/1" in shell.do("script -qec tty /dev/null < /dev/null")
    assert "/dev/pts/0" in sandbox.run("script -qec tty /dev/null < /dev/null").stdout


STEAL = f"""{PYTHON} '
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for pid in filter(str.isdigit, os.listdir("/proc")):
    for fd in range(64):
        libc.syscall(438, libc.syscall(434, int(pid), 0), fd, 0)  # pidfd_getfd(pidfd_open(pid))
links = (os.readlink("/proc/self/fd/" + fd) for fd in os.listdir("/proc/self/fd")[:-1])
print(sum("ptmx" in link for link in links))'"""


def test_no_program_has_the_master_of_a_terminal_that_it_did_not_open(sandbox: Sandbox) -> None:
    filters = sandbox.warden.resources.filters
    filters[""] = seccomp.compile(allow=("pidfd_getfd",))
    with sit(sandbox) as shell:
        assert shell.do(STEAL) == "0\n"
        shell.type("script -qc 'sleep 60' /dev/null\n")
        own = shell.started.pid
        # script has one too, of the terminal that it made
        until(lambda: not set(masters(sandbox.slot.uid)) <= {own})
        holders = masters(sandbox.slot.uid)
    assert own in holders
    assert {title for pid, title in holders.items() if pid != own} == {"script"}


def masters(uid: int) -> dict[int, str]:
    """Pid and name of every process of `uid`, seen from the host, that has a terminal's master."""
    names = {}
    for pid in procfs.pids():
        if procfs.status(pid, "Uid")[0].split()[:1] == [str(uid)] and any(
            name.endswith("/ptmx") for name in files(pid).values()
        ):
            names[pid] = procfs.text(f"/proc/{pid}/comm").strip()
    return names


def test_client_that_leaves_hangs_up_and_programs_can_save_their_work(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(init, "LINGER_S", PATIENCE_S / 2)  # it ends with the last program
    script = "trap 'sleep 0.2; echo saved > saved; exit' HUP; while :; do sleep 0.05; done"
    with sit(sandbox) as shell:
        shell.type(f"bash -c '{script.replace(chr(39), chr(34))}'\n")
        wait_for_program(sandbox, "sleep")
        shell.leave()
        verdict = shell.ended()["verdict"]
    assert (verdict["outcome"], verdict["signal"], verdict["sent_by"]) == (
        "signal",
        "SIGHUP",
        "client",
    )
    assert sandbox.run("cat saved").stdout == "saved\n"
    assert not uid_processes.living(sandbox.slot.uid)


def test_client_that_leaves_at_once_is_the_end_of_the_terminal_and_no_fault(
    sandbox: Sandbox,
) -> None:
    """In most tries the terminal is gone before its shell could open it."""
    for _ in range(8):
        with sit(sandbox, "exec sleep 60") as shell:
            shell.leave()
            event = shell.ended()
        assert event["event"] == "step", event
        verdict = event["verdict"]
        assert (verdict["outcome"], verdict["sent_by"]) == ("signal", "client")


def test_programs_cannot_save_their_work_after_a_hangup_without_time_to_end(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(init, "LINGER_S", 0)
    script = "trap 'sleep 0.2; echo saved > saved; exit' HUP; while :; do sleep 0.05; done"
    with sit(sandbox) as shell:
        shell.type(f"bash -c '{script.replace(chr(39), chr(34))}'\n")
        wait_for_program(sandbox, "sleep")
        shell.leave()
        shell.ended()
    assert sandbox.run("cat saved").stdout == ""


def test_programs_that_ignore_the_hangup_are_killed(sandbox: Sandbox) -> None:
    with sit(sandbox, "trap '' HUP; setsid sleep 60 & nohup sleep 60 & echo on; sleep 60") as shell:
        shell.until("on")
        shell.leave()
        event = shell.ended()
    assert event["exit"] == 137
    assert not uid_processes.living(sandbox.slot.uid)


def test_programs_that_a_shell_has_started_end_with_it(sandbox: Sandbox) -> None:
    with sit(sandbox) as shell:
        shell.type("setsid sleep 60 & (trap '' HUP TERM; sleep 60) & disown -a; exit\n")
        shell.to_the_end()
        shell.ended()
    assert not uid_processes.living(sandbox.slot.uid)


@pytest.mark.parametrize(
    ("limits", "command", "limit"),
    [
        ({"wall_s": 0.5}, "sleep 60", "wall_s"),
        ({"cpu_s": 0.3}, "while :; do :; done", "cpu_s"),
        ({"memory": 32 << 20}, "head -c 60M /dev/zero > /dev/shm/x; exit 1", "memory"),
    ],
)
def test_limits_hold_on_a_terminal(
    sandbox: Sandbox, limits: dict[str, float], command: str, limit: str
) -> None:
    with sit(sandbox, command, **limits) as it:
        it.to_the_end()
        assert it.ended()["verdict"]["limit"] == limit


def test_flood_on_a_terminal_is_held_back_while_the_client_does_not_read(sandbox: Sandbox) -> None:
    with sit(sandbox, "yes") as it:
        time.sleep(1)
        before = cpu_of(it.started.pid)
        time.sleep(1)
        assert cpu_of(it.started.pid) - before < 50, "the shim works although nobody reads"
        while len(it.shown) < 4 << 20:
            assert it.read()
        assert it.shown == b"y\r\n" * (len(it.shown) // 3) + b"y\r\n"[: len(it.shown) % 3]


def cpu_of(pid: int) -> int:
    """CPU ticks of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_input_that_no_program_reads_is_bounded_and_control_messages_pass(
    sandbox: Sandbox,
) -> None:
    with sit(sandbox, "stty raw -echo isig; echo on; trap 'echo int; exit' INT; sleep 60") as it:
        it.until("on")
        it.type(b"x" * (terminal.INPUT_MAX + (256 << 10)))
        it.resize(11, 22)
        while not it.dropped:
            assert it.read()
        assert it.dropped <= 512 << 10


def test_bytes_pass_a_raw_terminal_unchanged(sandbox: Sandbox) -> None:
    everything = bytes(range(256)) * 64
    with sit(
        sandbox, "stty raw -echo; echo on; head -c 16384; head -c 16384 /dev/urandom | wc -c"
    ) as it:
        it.until("on\n")
        it.type(everything)
        it.to_the_end()
        assert it.shown == everything + b"16384\n"
