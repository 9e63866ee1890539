"""The places below /home/work that links lead to, found component by component.

The kernel follows relative links below a descriptor (beneath.py), but takes an absolute link for
one that leaves it. Programs write absolute links to their own files all the same, so a link to
/home/work/x means x here. The result is a name without links: to open it, the kernel is asked to
refuse every link on the way, so a program that changes the tree meanwhile gains nothing.
"""

from __future__ import annotations

import errno
import functools
import os

from ..errors import Invalid
from ..jail.syscalls import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2
from ..link_targets import TooManyLinks, below, resolve
from ..link_targets import relative as climbing
from ..model import HOME
from .paths import Name, absolute, relative, shown

NO_LINKS = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.ENAMETOOLONG)
_REMEMBERED = 50_000
STEPS_MAX = 10_000_000
"""Components that all links of one tree may lead through: about ten seconds. A million links, each
through forty others of two thousand components, would keep the helper busy for days."""


def real_place(home: int, parts: Name) -> Name | None:
    """The name without links that `parts` leads to, whether it exists or not; None: it leaves
    /home/work. Raises Invalid for too many links, OSError."""
    try:
        return resolve((), "/".join(parts), lambda place: _target(place, (home,)))
    except TooManyLinks:
        raise Invalid(f"{shown(absolute(parts))}: has too many links on its way") from None


class LinkRule:
    """The rule that a link stays below /home/work, in the trees `roots`, the first one on top."""

    def __init__(self, *roots: int) -> None:
        self._target = functools.lru_cache(_REMEMBERED)(lambda place: _target(place, roots))
        self._steps = 0

    def leaves(self, name: Name, target: str) -> bool:
        """The link `name` to `target` leaves /home/work, maybe by way of other links. Raises
        OSError, and Invalid when the links of the tree are too many."""
        target = _without_home(name[:-1], target)
        if target.startswith("/"):
            return True
        try:
            return resolve(name[:-1], target, self._look_up) is None
        except TooManyLinks:  # it leads nowhere
            return False

    def _look_up(self, place: Name) -> str | None:
        self._steps += 1
        if self._steps > STEPS_MAX:
            raise Invalid(
                f"the links lead through too many others (refused at {shown(absolute(place))}); "
                "leave some of them out"
            )
        return self._target(place)


def _target(place: Name, roots: tuple[int, ...]) -> str | None:
    """The target of the link at `place` in the first of `roots` that has something there; None:
    it is no link. Raises FileNotFoundError when no root has it."""
    for root in roots:
        try:
            parent = openat2(root, relative(place[:-1]), os.O_PATH | os.O_DIRECTORY, NO_LINKS)
            try:
                return _without_home(place[:-1], os.readlink(place[-1], dir_fd=parent))
            finally:
                os.close(parent)
        except OSError as error:
            if error.errno == errno.EINVAL:  # readlink(2): no link
                return None
            if error.errno not in _ABSENT:
                raise
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def _without_home(directory: Name, target: str) -> str:
    """`target` of a link in `directory`; relative if it is an absolute one below /home/work."""
    rest = below(target, HOME) if target.startswith("/") else None
    return target if rest is None else climbing(directory, rest)
