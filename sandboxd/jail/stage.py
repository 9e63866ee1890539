"""Names the point of the set-up that fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import StageError


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Whatever the kernel refuses inside becomes a StageError of stage `name`."""
    try:
        yield
    except OSError as error:
        raise StageError.of(name, error) from error


def expect(name: str, what: str, found: object, wanted: object) -> None:
    """Raise StageError unless the value read back is the one that was asked for."""
    if found != wanted:
        raise StageError(name, f"{what} is {found}, not {wanted}")
