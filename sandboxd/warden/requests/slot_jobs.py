"""The jobs that are data, so that a job process can do them (job_process.py). Every session has
most of them: a slot is made, and it is emptied; the directories of its runs are emptied meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ..background import reported
from ..job_process import JobSpec
from ..runs.connection_count import count_connections
from ..runs.emptied_directories import empty_runs
from ..runs.lock_count import count_locks
from ..shared_resources import Resources
from ..slots.provision import provision
from ..slots.reclaim import reclaim
from ..slots.slots import Slot


def make_slot(**arguments: Any) -> dict[str, Any]:
    """Provision a slot; the fields of the StageError, if there is one."""
    return reported(lambda: provision(**arguments))()


def empty_slot(
    state_dir: str, number: int, uid: int, folders: Sequence[int] = ()
) -> dict[str, list[str]]:
    """Reclaim a slot; the fields of what remains."""
    return asdict(reclaim(state_dir, number, uid, folders))


FUNCTIONS = (make_slot, empty_slot, empty_runs, count_locks, count_connections)


def making(resources: Resources, slot: Slot, size: int, inodes: int) -> JobSpec:
    """The making of a slot with a scratch of `size` bytes and `inodes`."""
    places = [attachment.name for attachment in slot.attachments]
    if slot.workspace and slot.workspace.place:
        places.append(slot.workspace.place)
    config = resources.config
    arguments = {
        "state_dir": config.state_dir, "kind": config.scratch.kind, "path": slot.path,
        "uid": slot.uid, "size": size, "inodes": inodes, "session": slot.session, "places": places,
    }  # fmt: skip
    return JobSpec(make_slot, arguments)


def emptying(resources: Resources, slot: Slot) -> JobSpec:
    """The reclaim of a slot."""
    place = {"state_dir": resources.config.state_dir, "number": slot.number, "uid": slot.uid}
    return JobSpec(empty_slot, place)
