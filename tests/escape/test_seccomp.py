"""Kernel surface that a program could reach, and that it cannot; each also without the filter."""

from __future__ import annotations

import pytest

from sandboxd.jail import seccomp

from ..sandbox import Sandbox

CALL = (
    '/usr/bin/python3 -c "import ctypes; l = ctypes.CDLL(None, use_errno=True); '
    'print(l.syscall({}), ctypes.get_errno())"'
)
EPERM, EAFNOSUPPORT, ENOSYS = 1, 97, 38


@pytest.mark.parametrize(
    ("arguments", "errno"),
    [
        ("272, 0x10000000", EPERM),  # unshare(CLONE_NEWUSER)
        ("56, 0x10000011, 0, 0, 0, 0", EPERM),  # clone with CLONE_NEWUSER
        ("435, 0, 0", ENOSYS),  # clone3
        ("425, 1, 0", ENOSYS),  # io_uring_setup
        ("321, 0, 0, 0", EPERM),  # bpf
        ("298, 0, 0, 0, 0, 0", EPERM),  # perf_event_open
        ("101, 0, 0, 0, 0", EPERM),  # ptrace
        ("250, 0, 0, 0, 0, 0", EPERM),  # keyctl
        ("165, 0, 0, 0, 0, 0", EPERM),  # mount
        ("442, -1, 0, 0, 0, 0", EPERM),  # mount_setattr
        ("41, 16, 3, 0", EAFNOSUPPORT),  # socket(AF_NETLINK)
        ("41, 40, 1, 0", EAFNOSUPPORT),  # socket(AF_VSOCK)
        ("41, 17, 3, 0", EAFNOSUPPORT),  # socket(AF_PACKET)
        ("16, 0, ctypes.c_ulong(0x100005412), 0", EPERM),  # ioctl(TIOCSTI), high bits set
    ],
)
def test_dangerous_call_is_refused(sandbox: Sandbox, arguments: str, errno: int) -> None:
    assert sandbox.run(CALL.format(arguments)).stdout == f"-1 {errno}\n"


def test_without_the_filter_a_user_namespace_could_be_made(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seccomp, "apply", lambda program: None)
    monkeypatch.setattr(seccomp, "verify", lambda: None)
    assert sandbox.run(CALL.format("272, 0x10000000")).stdout == "0 0\n"


def test_filter_that_was_not_installed_stops_the_run(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seccomp, "apply", lambda program: None)
    result = sandbox.run("echo ran")
    assert (result.last["event"], result.last["stage"]) == ("fault", "seccomp")


def test_filter_that_allows_all_stops_the_run(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow_all = bytes.fromhex("060000000000ff7f")
    apply = seccomp.apply
    monkeypatch.setattr(seccomp, "apply", lambda program: apply(allow_all))
    result = sandbox.run("echo ran")
    assert (result.last["event"], result.last["stage"]) == ("fault", "seccomp")


def test_clean_build_and_exec_are_filtered_alike(sandbox: Sandbox) -> None:
    probe = "grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status"
    result = sandbox.run(probe, clean=probe, build=probe)
    assert result.stdout.split() == ["NoNewPrivs:", "1", "Seccomp:", "2"] * 3
