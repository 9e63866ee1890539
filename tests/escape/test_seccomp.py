"""Kernel surface that a program could reach, and that it cannot; each also without the filter."""

from __future__ import annotations

import os
import time

import pytest

from sandboxd.jail import seccomp
from sandboxd.shim.denied_calls import BATCH, FREE, PAUSE_S, DeniedCalls

from ..sandbox import Sandbox

CALL = (
    '/usr/bin/python3 -c "import ctypes; l = ctypes.CDLL(None, use_errno=True); '
    'print(l.syscall({}), ctypes.get_errno())"'
)
EPERM, ENOMEM, EBUSY, EAFNOSUPPORT, EPROTONOSUPPORT, ENOSYS = 1, 12, 16, 97, 93, 38
ALLOW_ALL = bytes.fromhex("060000000000ff7f")


@pytest.mark.parametrize(
    ("arguments", "errno"),
    [
        ("272, 0x10000000", EPERM),  # unshare(CLONE_NEWUSER)
        ("56, 0x10000011, 0, 0, 0, 0", EPERM),  # clone with CLONE_NEWUSER
        ("435, 0, 0", ENOSYS),  # clone3
        ("425, 1, 0", ENOSYS),  # io_uring_setup
        ("206, 1, 0", ENOSYS),  # io_setup: counted for the whole host
        ("319, b'x', 4", ENOMEM),  # memfd_create(MFD_HUGETLB): no cgroup counts it
        ("321, 0, 0, 0", EPERM),  # bpf
        ("298, 0, 0, 0, 0, 0", EPERM),  # perf_event_open
        ("101, 0, 0, 0, 0", EPERM),  # ptrace
        ("250, 0, 0, 0, 0, 0", EPERM),  # keyctl
        ("165, 0, 0, 0, 0, 0", EPERM),  # mount
        ("442, -1, 0, 0, 0, 0", EPERM),  # mount_setattr
        ("41, 16, 3, 0", EAFNOSUPPORT),  # socket(AF_NETLINK)
        ("41, 40, 1, 0", EAFNOSUPPORT),  # socket(AF_VSOCK)
        ("41, 17, 3, 0", EAFNOSUPPORT),  # socket(AF_PACKET)
        ("41, 2, 1, 132", EPROTONOSUPPORT),  # socket(AF_INET, SOCK_STREAM, IPPROTO_SCTP)
        ("41, 2, 6, 33", EPROTONOSUPPORT),  # socket(AF_INET, SOCK_DCCP, IPPROTO_DCCP)
        ("41, 2, 6, 0", EPROTONOSUPPORT),  # the type alone asks for the module of DCCP
        ("53, 2, 1, 132, 0", EAFNOSUPPORT),  # socketpair(AF_INET, ..., IPPROTO_SCTP): so does it
        ("16, 0, 0x8940, 0", EPERM),  # ioctl(SIOCGIFBR): of bridges
        ("16, 0, 0x8982, 0", EPERM),  # ioctl(SIOCGIFVLAN): of VLANs
        ("317, 1, 8, 0", EBUSY),  # seccomp(SECCOMP_FILTER_FLAG_NEW_LISTENER)
        ("16, 0, ctypes.c_ulong(0x100005412), 0", EPERM),  # ioctl(TIOCSTI), high bits set
    ],
)
def test_dangerous_call_is_refused(sandbox: Sandbox, arguments: str, errno: int) -> None:
    assert sandbox.run(CALL.format(arguments)).stdout == f"-1 {errno}\n"


def test_without_the_filter_a_user_namespace_could_be_made(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = seccomp.apply
    monkeypatch.setattr(seccomp, "apply", lambda program: apply(ALLOW_ALL))
    monkeypatch.setattr(seccomp, "verify", lambda: None)
    assert sandbox.run(CALL.format("272, 0x10000000")).stdout == "0 0\n"


def test_without_the_filter_huge_pages_could_be_had(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = seccomp.apply
    monkeypatch.setattr(seccomp, "apply", lambda program: apply(ALLOW_ALL))
    monkeypatch.setattr(seccomp, "verify", lambda: None)
    assert sandbox.run(CALL.format("319, b'x', 4")).stdout == "3 0\n"


def test_filter_that_was_not_installed_stops_the_run(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seccomp, "apply", lambda program: os.open("/dev/null", os.O_RDONLY))
    result = sandbox.run("echo ran")
    assert (result.last["event"], result.last["stage"]) == ("fault", "seccomp")


def test_filter_that_allows_all_stops_the_run(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = seccomp.apply
    monkeypatch.setattr(seccomp, "apply", lambda program: apply(ALLOW_ALL))
    result = sandbox.run("echo ran")
    assert (result.last["event"], result.last["stage"]) == ("fault", "seccomp")


def test_clean_build_and_exec_are_filtered_alike(sandbox: Sandbox) -> None:
    probe = "grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status"
    result = sandbox.run(probe, clean=probe, build=probe)
    assert result.stdout.split() == ["NoNewPrivs:", "1", "Seccomp:", "2"] * 3


def test_refused_call_is_named_and_the_program_goes_on(sandbox: Sandbox) -> None:
    result = sandbox.run(f"{CALL.format('165, 0, 0, 0, 0, 0')}; exit 3", build="true")
    assert result.stdout == f"-1 {EPERM}\n"
    assert (result.verdict["outcome"], result.verdict["denied_syscall"]) == ("failure", "mount")
    assert result.events[1]["verdict"]["denied_syscall"] is None, "it is another step's"


def test_flood_of_refused_calls_costs_the_flooder(sandbox: Sandbox) -> None:
    """A million calls are not over soon, the deadline holds, and the shim, which would answer
    many thousands a second, does so for few."""
    loop = (
        "import ctypes; l = ctypes.CDLL(None)\n"
        "for _ in range(10 ** 6): l.syscall(165, 0, 0, 0, 0, 0)"
    )
    result = sandbox.run(f'/usr/bin/python3 -c "{loop}"', wall_s=2)
    assert result.verdict["limit"] == "wall_s"
    assert 0 < result.verdict["denied"]["mount"] < FREE + 3 / PAUSE_S * BATCH


def test_caller_that_waits_for_its_refusal_can_be_killed(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DeniedCalls, "_readable", lambda denied, fd: time.sleep(0.05))
    result = sandbox.run(CALL.format("165, 0, 0, 0, 0, 0"), wall_s=0.5)
    assert result.verdict["limit"] == "wall_s"


def test_without_its_supervisor_a_refused_call_is_not_carried_out(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DeniedCalls, "watch", lambda denied, selector: denied.close())
    assert sandbox.run(CALL.format("272, 0x10000000")).stdout == f"-1 {ENOSYS}\n"


def test_filter_of_the_program_itself_can_only_refuse_more(sandbox: Sandbox) -> None:
    """Its filter says "allow" to all, then "notify" of mount without a listener."""
    program = (
        "import ctypes, struct; l = ctypes.CDLL(None, use_errno=True)\n"
        "def filter(*code):\n"
        "    data = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *c) for c in code))\n"
        "    p = struct.pack('HxxxxxxP', len(code), ctypes.addressof(data))\n"
        "    print(l.syscall(317, 1, 0, p))\n"
        "def mount(): print(l.syscall(165, 0, 0, 0, 0, 0), ctypes.get_errno())\n"
        "filter((6, 0, 0, 0x7fff0000)); mount()\n"
        "filter((0x20, 0, 0, 0), (0x15, 0, 1, 165), (6, 0, 0, 0x7fc00000), (6, 0, 0, 0x7fff0000))\n"
        "mount()\n"
    )
    result = sandbox.run(f"/usr/bin/python3 - <<'E'\n{program}\nE")
    assert result.stdout.split("\n") == ["0", f"-1 {EPERM}", "0", f"-1 {ENOSYS}", ""]


def test_call_of_another_architecture_kills_and_is_named(sandbox: Sandbox) -> None:
    """int 0x80 with the number of getpid, from a page made for it."""
    program = (
        "import ctypes, mmap\n"
        "m = mmap.mmap(-1, 4096, prot=7); m.write(bytes.fromhex('b814000000cd80c3'))\n"
        "ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))()\n"
    )
    result = sandbox.run(f"exec /usr/bin/python3 - <<'E'\n{program}\nE")
    assert (result.verdict["signal"], result.verdict["sent_by"]) == ("SIGSYS", "kernel")
    assert "32-bit" in result.verdict["advice"]


def test_a_runtimes_filter_is_that_of_its_runs_alone(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = seccomp.compile(allow=("kcmp",), refuse=("socket",))
    monkeypatch.setitem(sandbox.requests.filters, "own", made)
    probe = f"{CALL.format('312, 1, 1, 0, 0, 0')}; {CALL.format('41, 1, 1, 0')}"
    own = sandbox.run(probe, runtime="own")
    assert own.stdout.split("\n")[1] == f"-1 {EPERM}" and own.verdict["denied"] == {"socket": 1}
    other = sandbox.run(probe, runtime="c")
    assert other.stdout.split("\n")[0] == f"-1 {EPERM}" and other.verdict["denied"] == {"kcmp": 1}


def test_runtime_whose_filter_forbids_to_begin_is_our_fault_and_no_hang(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sandbox.requests.filters, "own", seccomp.compile(refuse=("execve",)))
    assert sandbox.run("true", runtime="own").last["event"] == "fault"
