"""The values of the list of protections."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HostGuarantee:
    """A row of `sandboxd doctor`: something that a host can guarantee, and a probe tries.

    group    isolation, limits, files or host
    meaning  what holds, when it holds
    remedy   what an operator does, when it does not
    """

    group: str
    name: str
    meaning: str
    remedy: str


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


def kernel(feature: str) -> str:
    """The remedy where a feature of the kernel is missing."""
    return f"use a kernel of Linux 5.12 or newer with {feature}"
