"""The remedy for a guarantee that is missing, chosen by the answer of the kernel.

A kernel is blamed only if it is older than the guarantee needs. A newer one refuses because of a
container, a limit, or its build configuration. No rule here looks at the host.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kernel:
    """The features of the kernel that a guarantee needs.

    linux    the first version of Linux that has it
    option   the option of the kernel's configuration that brings it
    sysctl   the setting that limits how many of it there are
    """

    linux: tuple[int, int] = (0, 0)
    option: str = ""
    sysctl: str = ""


_NOT_BUILT = (errno.EINVAL, errno.ENOSYS, errno.ENODEV)
_VERSION = re.compile(r"(\d+)\.(\d+)")


def remedy(kernel: Kernel, code: int, release: str, otherwise: str) -> str:
    """The remedy where the kernel of this `release` (uname(2)) has answered errno `code`, 0 where
    it did not refuse. `otherwise` is for causes that lie in no kernel."""
    if too_old := older(release, kernel.linux):
        return too_old
    if kernel.sysctl and code == errno.ENOSPC:
        return f"raise the limit: sysctl {kernel.sysctl}"
    if kernel.option and code in _NOT_BUILT:
        return f"use a kernel that is built with {kernel.option}"
    return otherwise


def older(release: str, linux: tuple[int, int]) -> str:
    """A sentence if this kernel is older than `linux`; empty if it is not, or has no version."""
    version = _VERSION.match(release)
    if version is None or (int(version[1]), int(version[2])) >= linux:
        return ""
    return f"it needs Linux {linux[0]}.{linux[1]} or newer, and this is {release}"
