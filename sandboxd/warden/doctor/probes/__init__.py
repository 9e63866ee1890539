"""The probes: what the doctor and each start try on this host (guarantees.py has the list).

Each probe is called in a child of its own. It returns a few words about how the host does it, or
raises StageError, ConfigError or OSError. It does what a run does, with the same code. A kernel's
version says little, since distributions patch, containers forbid, and administrators switch off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ....config.settings import Config
from ...runs.cgroups import Hierarchy


@dataclass(frozen=True, slots=True)
class ProbeContext:
    """The host as the probes see it.

    uid        of the unprivileged half
    directory  an empty one of root's, on the state directory's file system
    hierarchy  the place for cgroups; the text of the failure where there is none
    """

    config: Config
    uid: int
    directory: str
    hierarchy: Hierarchy | str


Probe = Callable[[ProbeContext], str]
