"""The stages of the set-up: named points, for errors."""

from __future__ import annotations

from types import TracebackType

from ..errors import StageError


class stage:  # a function for its users
    """An OSError inside becomes a StageError of stage `name`.

    A class, not a generator: a new process copies a page of memory for each object that it uses for
    the first time, and contextlib has many.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        if isinstance(error, OSError):
            raise StageError.of(self.name, error) from error


def expect(name: str, what: str, current: object, wanted: object) -> None:
    """Raise StageError unless the value read back is the wanted one."""
    if current != wanted:
        raise StageError(name, f"{what} is {current}, not {wanted}")
