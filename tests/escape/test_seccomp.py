"""The filter of system calls and the shim's answers, in a run."""

from __future__ import annotations

import time

import pytest

from sandboxd.jail import seccomp
from sandboxd.shim.denied_calls import BATCH, FREE, PAUSE_S, DeniedCalls

from ..sandbox import Sandbox

CALL = (
    '/usr/bin/python3 -c "import ctypes; l = ctypes.CDLL(None, use_errno=True); '
    'print(l.syscall({}), ctypes.get_errno())"'
)
EPERM, ENOMEM, EAFNOSUPPORT, EPROTONOSUPPORT, ENOSYS = 1, 12, 97, 93, 38
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


def test_huge_pages_can_be_had_without_the_filter(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = seccomp.apply
    monkeypatch.setattr(seccomp, "apply", lambda program: apply(ALLOW_ALL))
    monkeypatch.setattr(seccomp, "verify", lambda: None)
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
    result = sandbox.run(f'/usr/bin/python3 -c "{loop}"', wall_s=2)
    assert result.verdict["limit"] == "wall_s"
    assert 0 < result.verdict["denied"]["mount"] < FREE + 3 / PAUSE_S * BATCH


def test_program_that_waits_for_the_answer_to_a_refused_call_ends_with_its_deadline(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DeniedCalls, "_readable", lambda denied, fd: time.sleep(0.05))
    result = sandbox.run(CALL.format("165, 0, 0, 0, 0, 0"), wall_s=0.5)
    assert result.verdict["limit"] == "wall_s"


def test_refused_call_is_not_carried_out_without_a_supervisor(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DeniedCalls, "watch", lambda denied, selector: denied.close())
    assert sandbox.run(CALL.format("272, 0x10000000")).stdout == f"-1 {ENOSYS}\n"


def test_filter_that_a_program_adds_can_only_refuse_more(sandbox: Sandbox) -> None:
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
