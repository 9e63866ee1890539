"""A call of prctl(2) that the jail leaves out."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from sandboxd.jail import syscalls


def skip_prctl(patch: pytest.MonkeyPatch, option: int) -> None:
    """Let prctl do nothing and return 0 for this option."""
    real, real_each = syscalls.prctl, syscalls.prctl_each

    def prctl(number: int, arg2: int = 0, arg3: int = 0) -> int:
        return 0 if number == option else real(number, arg2, arg3)

    def prctl_each(question: tuple[int, ...], numbers: Iterable[int]) -> list[int]:
        return [] if question == (option,) else real_each(question, numbers)

    patch.setattr(syscalls, "prctl", prctl)
    patch.setattr(syscalls, "prctl_each", prctl_each)
