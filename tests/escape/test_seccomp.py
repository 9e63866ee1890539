"""The filter of system calls and the shim's answers, in a run."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from sandboxd.errors import StageError
from sandboxd.jail import seccomp, syscalls
from sandboxd.shim.denied_calls import BATCH, FREE, PAUSE_S, DeniedCalls

from ..sandbox import Sandbox

CALL = (
    '/usr/bin/python3 -c "import ctypes; l = ctypes.CDLL(None, use_errno=True); '
    'print(l.syscall({}), ctypes.get_errno())"'
)
EPERM, ENOMEM, EINVAL, EAFNOSUPPORT, EPROTONOSUPPORT, ENOSYS = 1, 12, 22, 97, 93, 38
MIB = 1 << 20
ALLOW_ALL = bytes.fromhex("060000000000ff7f")


@pytest.mark.parametrize(
    ("arguments", "errno"),
    [
        ("206, 1, 0", ENOSYS),  # io_setup: counted for the whole host
        ("319, b'x', 4", ENOMEM),  # memfd_create(MFD_HUGETLB): no cgroup counts it
        ("41, 2, 1, 132", EPROTONOSUPPORT),  # socket(AF_INET, SOCK_STREAM, IPPROTO_SCTP)
        ("41, 2, 6, 33", EPROTONOSUPPORT),  # socket(AF_INET, SOCK_DCCP, IPPROTO_DCCP)
        ("41, 2, 6, 0", EPROTONOSUPPORT),  # the type alone asks for the module of DCCP
        ("53, 2, 1, 132, 0", EAFNOSUPPORT),  # socketpair(AF_INET, ..., IPPROTO_SCTP): so does it
        ("16, 0, 0x8940, 0", EPERM),  # ioctl(SIOCGIFBR): of bridges
        ("16, 0, 0x8982, 0", EPERM),  # ioctl(SIOCGIFVLAN): of VLANs
    ],
)
def test_call_that_no_attack_of_the_selftest_tries_is_refused(
    sandbox: Sandbox, arguments: str, errno: int
) -> None:
    assert sandbox.run(CALL.format(arguments)).stdout == f"-1 {errno}\n"


def without_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    apply = seccomp.apply
    monkeypatch.setattr(seccomp, "apply", lambda program: apply(ALLOW_ALL))
    monkeypatch.setattr(seccomp, "verify", lambda: None)


def test_huge_pages_can_be_had_without_the_filter(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_filter(monkeypatch)
    assert sandbox.run(CALL.format("319, b'x', 4")).stdout == "3 0\n"


def test_refused_call_is_named_and_the_program_goes_on(sandbox: Sandbox) -> None:
    result = sandbox.run(f"{CALL.format('165, 0, 0, 0, 0, 0')}; exit 3", build="true")
    assert result.stdout == f"-1 {EPERM}\n"
    assert (result.verdict["outcome"], result.verdict["denied_syscall"]) == ("failure", "mount")
    assert result.events[1]["verdict"]["denied_syscall"] is None, "it is another step's"


def test_flood_of_refused_calls_is_slowed_down_and_ends_with_its_deadline(sandbox: Sandbox) -> None:
    """The deadline ends a program of a million refused calls. The shim, which could answer many
    thousands a second, answers few."""
    loop = (
        "import ctypes; l = ctypes.CDLL(None)\n"
        "for _ in range(10 ** 6): l.syscall(165, 0, 0, 0, 0, 0)"
    )
    result = sandbox.run(f'/usr/bin/python3 -c "{loop}"', wall_s=4)
    assert result.verdict["limit"] == "wall_s"
    seconds = result.verdict["usage"]["wall_ms"] / 1000 + 1
    assert 0 < result.verdict["denied"]["mount"] < FREE + seconds / PAUSE_S * BATCH


def test_program_that_waits_for_the_answer_to_a_refused_call_ends_with_its_deadline(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DeniedCalls, "_readable", lambda denied, fd: time.sleep(0.05))
    result = sandbox.run(CALL.format("165, 0, 0, 0, 0, 0"), wall_s=0.5)
    assert result.verdict["limit"] == "wall_s"


def test_refused_call_is_not_carried_out_without_a_supervisor(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DeniedCalls, "watch", lambda denied, *_: denied.close())
    assert sandbox.run(CALL.format("272, 0x10000000")).stdout == f"-1 {ENOSYS}\n"


@pytest.mark.parametrize(
    ("arguments", "errno"),
    [
        ("317, 1, 0, p", EINVAL),  # seccomp(SECCOMP_SET_MODE_FILTER)
        ("157, 22, 2, p", EINVAL),  # prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER)
        ("54, s, 1, 26, p, 16", EINVAL),  # setsockopt(SOL_SOCKET, SO_ATTACH_FILTER)
        ("54, s, 1, 51, p, 16", EINVAL),  # setsockopt(SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF)
    ],
)
def test_program_takes_none_of_the_memory_for_compiled_filters(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, arguments: str, errno: int
) -> None:
    program = (
        "import ctypes, socket, struct; l = ctypes.CDLL(None, use_errno=True)\n"
        "code = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0x7fff0000))\n"
        "p = struct.pack('HxxxxxxP', 1, ctypes.addressof(code))\n"
        "sock = socket.socket(2, 2); sock.setsockopt(1, 15, 1); sock.bind(('127.0.0.1', 0))\n"
        "s = sock.fileno()\n"
        f"print(l.syscall({arguments}), ctypes.get_errno())\n"
    )
    command = f"/usr/bin/python3 - <<'E'\n{program}\nE"
    assert sandbox.run(command).stdout == f"-1 {errno}\n"
    without_filter(monkeypatch)
    assert sandbox.run(command).stdout == "0 0\n"


def test_filter_is_loaded_while_the_bound_of_its_memory_does_not_count(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound on the memory of compiled filters is for processes without CAP_SYS_ADMIN, number
    21. In the virtual machine a run starts although the memory is used up (tests/vm)."""

    def apply(program: bytes) -> int:
        effective, *_ = syscalls.capget()
        raise StageError("seccomp", f"capability {effective >> 21 & 1}")

    monkeypatch.setattr(seccomp, "apply", apply)
    event = sandbox.run("true").last
    assert (event["stage"], event["message"]) == ("seccomp", "capability 1")


def test_sync_is_answered_and_writes_nothing_back(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file of a program stays in memory after sync(2), and is on the disk after fsync(2)."""
    written: list[int] = []

    def look(_: object) -> None:
        (path,) = Path(sandbox.slot.path).glob("**/mine")
        device = path.stat().st_dev
        numbers = f"{os.major(device)}:{os.minor(device)}"
        sectors = Path(f"/sys/dev/block/{numbers}/stat").read_text().split()[6]
        written.append(int(sectors) * 512)

    program = (
        "import os; fd = os.open('mine', os.O_CREAT | os.O_WRONLY | os.O_TRUNC); input()\n"
        f"os.write(fd, bytes({MIB} * 4)); os.sync(); input()\n"
        "os.fsync(fd); input()\n"
    )
    command = f'/usr/bin/python3 -c "{program}"'
    sandbox.run(command, answers=["\n"] * 3, on_wait=look)
    before, after_sync, after_fsync = written
    assert after_sync - before < MIB < 4 * MIB <= after_fsync - after_sync
    without_filter(monkeypatch)
    # This one writes all that the host has to write, also for other tests.
    sandbox.run(command, answers=["\n"] * 3, on_wait=look, wall_s=600)
    assert written[4] - written[3] >= 4 * MIB


def test_verdict_names_the_call_of_another_architecture_that_killed(sandbox: Sandbox) -> None:
    """int 0x80 with the number of getpid, from a page made for it."""
    program = (
        "import ctypes, mmap\n"
        "m = mmap.mmap(-1, 4096, prot=7); m.write(bytes.fromhex('b814000000cd80c3'))\n"
        "ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))()\n"
    )
    result = sandbox.run(f"exec /usr/bin/python3 - <<'E'\n{program}\nE")
    assert (result.verdict["signal"], result.verdict["sent_by"]) == ("SIGSYS", "kernel")
    assert "32-bit" in result.verdict["advice"]


def test_filter_of_a_runtime_is_not_that_of_another_runtime(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    filter = seccomp.compile(allow=("kcmp",), refuse=("socket",))
    monkeypatch.setitem(sandbox.warden.resources.filters, "own", filter)
    probe = f"{CALL.format('312, 1, 1, 0, 0, 0')}; {CALL.format('41, 1, 1, 0')}"
    own = sandbox.run(probe, runtime="own")
    assert own.stdout.split("\n")[1] == f"-1 {EPERM}" and own.verdict["denied"] == {"socket": 1}
    other = sandbox.run(probe, runtime="c")
    assert other.stdout.split("\n")[0] == f"-1 {EPERM}" and other.verdict["denied"] == {"kcmp": 1}


def test_runtime_whose_filter_refuses_execve_ends_its_run_with_a_fault(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    filters = sandbox.warden.resources.filters
    monkeypatch.setitem(filters, "own", seccomp.compile(refuse=("execve",)))
    assert sandbox.run("true", runtime="own").last["event"] == "fault"
