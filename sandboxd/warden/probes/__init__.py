"""What is tried to find out what this host can guarantee (guarantees.py has the list).

Each probe is called in a child of its own. It returns a few words about how the host does it, or
raises StageError, ConfigError or OSError. It does what a run does, with the same code, and not
what only looks like it: a kernel's version says little, since distributions patch, containers
forbid, and administrators switch off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...config import Config
from ..cgroups import Hierarchy


@dataclass(frozen=True, slots=True)
class Host:
    """What the probes work with.

    uid        of the unprivileged half
    directory  an empty one of root's, on the state directory's file system
    hierarchy  where cgroups may be made; the failure's text where they may not
    """

    config: Config
    uid: int
    directory: str
    hierarchy: Hierarchy | str


Probe = Callable[[Host], str]
