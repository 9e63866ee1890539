"""The values of the list of protections."""

from __future__ import annotations

from dataclasses import dataclass

from .remedies import Kernel


@dataclass(frozen=True, slots=True)
class HostGuarantee:
    """A row of `sandboxd doctor`: something that a host can guarantee, and a probe tries.

    group    isolation, limits, files or host
    meaning  what holds, when it holds
    remedy   a line for the operator, where the kernel is not the cause
    kernel   the needs of the guarantee in the kernel
    without  what works without the guarantee
    """

    group: str
    name: str
    meaning: str
    remedy: str
    kernel: Kernel = Kernel()
    without: str = ""


@dataclass(frozen=True, slots=True)
class Protection:
    """One protection.

    mechanism   what it does, and how
    modules     where it is applied, verified, or defined: below sandboxd/, or a directory
    guarantees  what the host must be able to do for it
    attacks     names of attacks of the self-test that fail because of it
    tests       files, or FILE::FUNCTION, that show it, or take it away and see what happens
    remains     what it does not protect
    """

    name: str
    mechanism: str
    modules: tuple[str, ...]
    guarantees: tuple[HostGuarantee, ...] = ()
    attacks: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    remains: str = ""


CONTAINER = "in a container, give it CAP_SYS_ADMIN and no seccomp or AppArmor profile of its own"
"""The remedy where a container refuses."""
