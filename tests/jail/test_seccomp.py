"""The filter, instruction by instruction, on every call that there is."""

from __future__ import annotations

import errno
import struct

import hypothesis
import pytest
from hypothesis import strategies as st

from sandboxd.errors import ConfigError
from sandboxd.jail import seccomp, syscalls
from sandboxd.jail.profile import ALLOWED, CONDITIONS, ENTRY, FINAL, IGNORED, REFUSED, names

from ..each_case import each_case
from .filter_program import (
    ALLOW,
    ARCHITECTURE,
    ENOSYS,
    EVERY,
    FILTER,
    I386,
    KILL,
    NOTIFY,
    NUMBERS,
    judged,
    plain,
    refusal,
)


def test_no_name_is_in_two_lists() -> None:
    assert len(EVERY) == len(set(EVERY))
    assert {c.call for c in CONDITIONS} <= set(names(ALLOWED))


def test_each_call_is_judged_as_the_profile_says() -> None:
    called = {number: name for name, number in NUMBERS.items()}
    assert set(called) & set(range(600)) >= {0, 1, 2}
    for number in range(600):
        name = called.get(number, "")
        if name in names(ALLOWED):
            expected = ALLOW
        elif name in names(REFUSED):
            expected = NOTIFY
        elif name in names(IGNORED):
            expected = refusal(0)
        else:
            expected = ENOSYS
        arguments = plain(name) if expected == ALLOW else ()
        assert judged(number, arguments) == expected, (number, name)
        if expected != ALLOW:  # a call that is allowed may be refused for its arguments
            noted = FILTER.refused.get(number)
            assert noted == (name if expected == NOTIFY else None), (number, name)


def test_call_whose_flags_no_filter_can_read_is_unknown() -> None:
    assert judged(NUMBERS["clone3"]) == ENOSYS
    assert judged(NUMBERS["io_uring_setup"]) == ENOSYS


@hypothesis.given(st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF))
def test_call_of_another_architecture_is_killed_whatever_its_number(
    number: int, architecture: int
) -> None:
    if architecture != ARCHITECTURE:
        assert judged(number, architecture=architecture) == KILL
    assert judged(number, architecture=I386) == KILL


@hypothesis.given(st.integers(0x40000000, 0xFFFFFFFF))
def test_x32_and_beyond_is_unknown(number: int) -> None:
    assert judged(number) == ENOSYS


DANGEROUS = """
    mount umount2 pivot_root chroot move_mount open_tree fsopen fsconfig fsmount fspick
    mount_setattr open_by_handle_at quotactl swapon swapoff unshare setns ptrace process_vm_readv
    process_vm_writev kcmp pidfd_getfd process_madvise migrate_pages move_pages bpf
    perf_event_open init_module finit_module delete_module kexec_load kexec_file_load reboot syslog
    acct userfaultfd vhangup fanotify_init add_key request_key keyctl sethostname setdomainname
    settimeofday clock_settime clock_adjtime adjtimex
"""
SURPRISING = "clone3 io_uring_setup io_uring_enter io_uring_register io_setup memfd_secret"
"""Written out again, so that a call that drops out of the profile is noticed."""

ARGUMENTS: list[tuple[str, tuple[int, ...], int]] = [
    ("ioctl", (0, 0x5412), NOTIFY),  # TIOCSTI
    ("ioctl", (0, 0x541C), NOTIFY),  # TIOCLINUX
    ("ioctl", (0, 0x541D), NOTIFY),  # TIOCCONS
    ("ioctl", (0, 0x5423), NOTIFY),  # TIOCSETD
    *(("ioctl", (0, n), NOTIFY) for n in (0x8940, 0x8941, 0x8980, 0x8982, 0x8983, 0x89A0, 0x89A1)),
    ("personality", (8,), NOTIFY),  # PER_LINUX32
    ("mmap", (0, 1 << 21, 3, 0x40022), 0x50000 | errno.ENOMEM),  # MAP_HUGETLB
    ("shmget", (0, 1 << 21, 0o4600), 0x50000 | errno.ENOMEM),  # SHM_HUGETLB
    ("memfd_create", (0, 4), 0x50000 | errno.ENOMEM),  # MFD_HUGETLB
    ("seccomp", (1, 0), 0x50000 | errno.EINVAL),  # SECCOMP_SET_MODE_FILTER
    ("seccomp", (0, 0), ALLOW),  # SECCOMP_SET_MODE_STRICT
    ("seccomp", (2, 0), ALLOW),  # SECCOMP_GET_ACTION_AVAIL
    ("prctl", (22, 2), 0x50000 | errno.EINVAL),  # PR_SET_SECCOMP
    ("prctl", (22, 1), ALLOW),
    ("prctl", (15, 2), ALLOW),  # PR_SET_NAME
    *(("setsockopt", (3, 1, n), 0x50000 | errno.EINVAL) for n in (26, 50, 51, 52)),
    ("setsockopt", (3, 41, 26), ALLOW),  # IPV6_V6ONLY has the number of SO_ATTACH_FILTER
    ("setsockopt", (3, 1, 9), ALLOW),  # SO_KEEPALIVE
    *(("setsockopt", (3, 6, n), 0x50000 | errno.ENOPROTOOPT) for n in (14, 31, 32, 38, 40)),
    *(("setsockopt", (3, 41, n), 0x50000 | errno.ENOPROTOOPT) for n in (6, 32, 57)),
    ("setsockopt", (3, 0, 38), NOTIFY),  # IP_BLOCK_SOURCE has the number of TCP_AO_ADD_KEY
    ("setsockopt", (3, 6, 1), ALLOW),  # TCP_NODELAY
    ("prlimit64", (1, 7), NOTIFY),  # of init
    ("sched_setaffinity", (1,), NOTIFY),
    ("sched_setscheduler", (1,), NOTIFY),
    ("sched_setparam", (1,), NOTIFY),
    ("sched_setattr", (1,), NOTIFY),
    ("setpriority", (0, 1), NOTIFY),
    ("setpriority", (2, 0), NOTIFY),  # PRIO_USER
    ("ioprio_set", (1, 1), NOTIFY),
    ("ioprio_set", (3, 0), NOTIFY),  # IOPRIO_WHO_USER
    ("prlimit64", (0, 7), ALLOW),  # of itself
    ("setpriority", (0, 0, 5), ALLOW),
    ("ioctl", (0, 0x5401), ALLOW),  # TCGETS
]


@each_case("name", DANGEROUS.split())
def test_dangerous_call_is_refused_whatever_the_profile_says(name: str) -> None:
    number = syscalls.syscall_numbers([name]).get(name)
    assert number is None or judged(number) == NOTIFY


@each_case("name", SURPRISING.split())
def test_call_that_gets_past_filters_or_counters_is_unknown(name: str) -> None:
    number = syscalls.syscall_numbers([name]).get(name)
    assert number is None or judged(number) == ENOSYS


@each_case(("name", "arguments", "wanted"), ARGUMENTS)
def test_arguments_of_an_allowed_call_decide(
    name: str, arguments: tuple[int, ...], wanted: int
) -> None:
    assert judged(NUMBERS[name], arguments) == wanted


@hypothesis.given(st.integers(0, 0xFFFFFFFF))
def test_socket_of_another_family_is_refused_before_the_kernel_loads_a_module(family: int) -> None:
    refused = refusal(errno.EAFNOSUPPORT)
    judgement = judged(NUMBERS["socket"], (family, 1, 0))
    assert judgement == (ALLOW if family in (1, 2, 10, 16) else refused)
    judgement = judged(NUMBERS["socketpair"], (family, 1, 132))
    assert judgement == (ALLOW if family == 1 else refused)


@hypothesis.given(st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF))
def test_socket_of_another_type_or_protocol_is_refused_before_the_kernel_loads_a_module(
    flags: int, number: int
) -> None:
    for kind in range(16):  # 6 is DCCP, which a protocol of 0 asks for as well
        wanted = ALLOW if kind in (1, 2, 3, 5) else refusal(errno.EPROTONOSUPPORT)
        assert judged(NUMBERS["socket"], (2, flags & ~0xF | kind, 0)) == wanted
    wanted = ALLOW if number in (0, 1, 6, 17, 58) else refusal(errno.EPROTONOSUPPORT)
    assert judged(NUMBERS["socket"], (2, 1, number)) == wanted


def test_families_and_protocols_of_sockets_are_allowed_one_by_one() -> None:
    for number in range(600):
        judgement = judged(NUMBERS["socket"], (2, 1, number))
        assert (judgement == ALLOW) == (number in (0, 1, 6, 17, 58))
        judgement = judged(NUMBERS["socket"], (number, 1, 0))
        assert (judgement == ALLOW) == (number in (1, 2, 10))
        assert (judgement == NOTIFY) == (number == 16), "the shim bounds their number"
        assert (judged(NUMBERS["socketpair"], (number, 1, 0)) == ALLOW) == (number == 1)


@hypothesis.given(st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF))
def test_netlink_has_the_protocol_of_interfaces_and_routes_only(number: int, high: int) -> None:
    for protocol in (number, *range(600)):
        arguments = (high << 32 | 16, 3, high << 32 | protocol)
        wanted = refusal(errno.EPROTONOSUPPORT) if protocol else NOTIFY
        assert judged(NUMBERS["socket"], arguments) == wanted


@hypothesis.given(st.integers(0, 0xFFFFFFFF))
def test_clone_with_any_namespace_flag_is_refused(flags: int) -> None:
    namespaces = 0x7E020000
    assert judged(NUMBERS["clone"], (flags,)) == (NOTIFY if flags & namespaces else ALLOW)


def test_filter_of_a_runtime_differs_in_its_own_calls_only() -> None:
    moved = seccomp.compile(allow=("ptrace",), refuse=("socket",))
    code = list(struct.iter_unpack("HBBI", moved.program))
    changed = {}
    for number in range(600):
        before, after = judged(number, (1, 1)), judged(number, (1, 1), program=code)
        if before != after:
            changed[number] = after
    assert changed == {NUMBERS["ptrace"]: ALLOW, NUMBERS["socket"]: NOTIFY}
    assert moved.refused[NUMBERS["socket"]] == "socket" and NUMBERS["ptrace"] not in moved.refused


@each_case(
    "name",
    [
        *names({group: REFUSED[group] for group in FINAL}),
        "mount", "setns", "bpf", "keyctl", "settimeofday",  # one of each, if FINAL had it not
        "clone3", "io_uring_setup", "no_such_call", "",
    ],
)  # fmt: skip
def test_call_that_leads_out_of_the_jail_cannot_be_allowed_to_a_runtime(name: str) -> None:
    with pytest.raises(ConfigError, match="never be allowed"):
        seccomp.compile(allow=(name,))


def test_call_that_is_allowed_already_may_be_allowed_to_a_runtime_and_changes_nothing() -> None:
    assert seccomp.compile(allow=("brk",)).program == FILTER.program


@pytest.mark.parametrize("name", ["mount", "clone3", "no_such_call"])
def test_call_that_is_not_allowed_anyway_cannot_be_refused_to_a_runtime(name: str) -> None:
    with pytest.raises(ConfigError, match="no call"):
        seccomp.compile(refuse=(name,))


@each_case("name", ENTRY)
def test_call_that_gives_up_root_cannot_be_refused_to_a_runtime(name: str) -> None:
    assert name in names(ALLOWED)
    with pytest.raises(ConfigError, match="gives up root"):
        seccomp.compile(refuse=(name,))
