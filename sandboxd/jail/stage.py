"""The stages of the set-up: named points, for errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import StageError


@contextmanager
def stage(name: str) -> Iterator[None]:
    """An OSError inside becomes a StageError of stage `name`."""
    try:
        yield
    except OSError as error:
        raise StageError.of(name, error) from error


def expect(name: str, what: str, current: object, wanted: object) -> None:
    """Raise StageError unless the value read back is the wanted one."""
    if current != wanted:
        raise StageError(name, f"{what} is {current}, not {wanted}")
