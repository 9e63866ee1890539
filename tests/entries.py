"""Entries to the jail that the test's own process forks, without a spawner."""

from __future__ import annotations

import functools
import os
import select
import selectors
from collections.abc import Iterator

from sandboxd.jail.enter import Jail
from sandboxd.shim import main as shim
from sandboxd.warden.fork import fork
from sandboxd.warden.runs.entries import Entries
from sandboxd.warden.runs.jail_entry import JailEntry
from sandboxd.warden.runs.spawner import SpawnerSpec
from sandboxd.warden.shared_resources import Resources
from sandboxd.warden.workers import Workers

from .waiting import PATIENCE_S

PREPARED = os.environ.get("SANDBOXD_TEST_PREPARED", "1") != "0"
"""Runs get an entry that is prepared before their order comes; "0": one that is made for it."""

WARM_S = float(os.environ.get("SANDBOXD_TEST_WARM", "0"))
"""Seconds for which the shim of a run waits for the next run of its session; 0: none does."""


class Prepared(Entries):
    """Entries that this process forks, and that are prepared when they get their order."""

    def _candidates(self, jail: Jail) -> Iterator[JailEntry]:
        for entry in super()._candidates(jail):
            end = entry.end
            entry.child = fork([end.fileno()], functools.partial(shim.main, end, jail))
            end.close()
            select.select([entry.sock], [], [], PATIENCE_S)
            if entry.receive() and entry.state == "prepared":
                yield entry
            entry.drop()
        yield from super()._candidates(jail)


def entries_of(resources: Resources, selector: selectors.BaseSelector, workers: Workers) -> Entries:
    """The entries of a warden without a loop."""
    kind = Prepared if PREPARED else Entries
    spec = SpawnerSpec(resources.jail(), ())
    return kind(selector, lambda: spec, workers.crashed, lambda pid: None)
