"""The remedy names the kernel only where the kernel is the cause."""

from __future__ import annotations

import errno

from sandboxd.protections.remedies import Kernel, older, remedy
from sandboxd.warden.doctor.guarantees import TABLE, Entry

from .each_case import each_case

OTHER = "do something else"


@each_case(
    ("release", "linux", "is_older"),
    [
        ("5.10.0-28-amd64", (5, 12), True),
        ("5.9", (5, 12), True),
        ("4.19.0", (5, 2), True),
        ("5.12.0", (5, 12), False),
        ("5.15.0-105-generic", (5, 12), False),
        ("6.1.0-18-amd64", (5, 12), False),
        ("10.0", (5, 12), False),
        ("6.8.0", (0, 0), False),
        ("unknown", (5, 12), False),
        ("", (5, 12), False),
    ],
)
def test_kernel_is_older_by_its_numbers_and_not_by_its_letters(
    release: str, linux: tuple[int, int], is_older: bool
) -> None:
    assert bool(older(release, linux)) == is_older


def test_older_kernel_is_named_with_the_version_that_is_needed() -> None:
    text = remedy(Kernel((5, 12)), errno.ENOSYS, "5.10.0-28-amd64", OTHER)
    assert text == "it needs Linux 5.12 or newer, and this is 5.10.0-28-amd64"


@each_case("entry", TABLE)
def test_version_of_a_new_kernel_is_never_blamed(entry: Entry) -> None:
    for code in (0, *errno.errorcode):
        text = remedy(entry.guarantee.kernel, code, "99.0.0", entry.guarantee.remedy)
        assert text and "Linux" not in text and "newer" not in text


@each_case("entry", TABLE)
def test_refusal_of_a_container_is_not_the_fault_of_the_kernel(entry: Entry) -> None:
    for code in (0, errno.EPERM, errno.EACCES):
        assert (
            remedy(entry.guarantee.kernel, code, "99.0.0", entry.guarantee.remedy)
            == entry.guarantee.remedy
        )


def test_limit_that_is_reached_is_named() -> None:
    kernel = Kernel(option="CONFIG_PID_NS", sysctl="user.max_pid_namespaces")
    for code in errno.errorcode:
        named = "user.max_pid_namespaces" in remedy(kernel, code, "6.1", OTHER)
        assert named == (code == errno.ENOSPC)


def test_option_of_the_kernel_is_named_where_the_call_is_unknown() -> None:
    for code in errno.errorcode:
        named = "CONFIG_PID_NS" in remedy(Kernel(option="CONFIG_PID_NS"), code, "6.1", OTHER)
        assert named == (code in (errno.EINVAL, errno.ENOSYS, errno.ENODEV))


def test_full_disk_is_no_limit_of_namespaces() -> None:
    assert remedy(Kernel(), errno.ENOSPC, "6.1", OTHER) == OTHER
