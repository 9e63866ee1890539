"""The jobs that are data, so that a job process can do them (job_process.py). Every session has
most of them: a slot is made, and it is emptied; the directories of its runs are emptied meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ...config.settings import ScratchConfig
from ..background import reported
from ..job_process import JobSpec
from ..runs.connection_count import count_connections
from ..runs.emptied_directories import empty_runs
from ..runs.lock_count import count_locks
from ..shared_resources import Resources
from ..slots.folders import mount
from ..slots.provision import provision
from ..slots.reclaim import reclaim
from ..slots.scratch import ScratchMaker
from ..slots.slots import Slot


def make_slot(state_dir: str, folders: Sequence[str], **arguments: Any) -> dict[str, Any]:
    """Mount the `folders` of a slot, and provision it; the fields of the StageError, if there is
    one."""
    return (
        mount_folders(state_dir, folders) or reported(lambda: provision(state_dir, **arguments))()
    )


def remount_scratch(state_dir: str, kind: str, path: str) -> dict[str, Any]:
    """Mount the scratch of a slot anew; the fields of the StageError, if there is one."""
    return reported(lambda: ScratchMaker(ScratchConfig(kind), state_dir).remount(path))()


def mount_folders(state_dir: str, folders: Sequence[str]) -> dict[str, Any]:
    """Mount virtual folders; the fields of the StageError, if there is one."""

    def act() -> None:
        for folder in folders:
            mount(state_dir, folder)

    return reported(act)()


def close_folders() -> dict[str, Any]:
    """Nothing but the end of the descriptors that come with the job: the last one of a file system
    waits until all of it is written (images.detach)."""
    return {}


def empty_slot(
    state_dir: str, number: int, uid: int, folders: Sequence[int] = ()
) -> dict[str, list[str]]:
    """Reclaim a slot; the fields of what remains."""
    return asdict(reclaim(state_dir, number, uid, folders))


FUNCTIONS = (
    make_slot, empty_slot, remount_scratch, mount_folders, close_folders, empty_runs, count_locks,
    count_connections,
)  # fmt: skip


def making(resources: Resources, slot: Slot, size: int, inodes: int) -> JobSpec:
    """The making of a slot with a scratch of `size` bytes and `inodes`."""
    places = [one.name for one in slot.attachments]
    if slot.workspace and slot.workspace.place:
        places.append(slot.workspace.place)
    config = resources.config
    arguments = {
        "state_dir": config.state_dir, "kind": config.scratch.kind, "path": slot.path,
        "uid": slot.uid, "size": size, "inodes": inodes, "session": slot.session, "places": places,
        "folders": _unmounted(resources, slot),
    }  # fmt: skip
    return JobSpec(make_slot, arguments)


def remounting(resources: Resources, slot: Slot) -> JobSpec:
    """The remounting of the scratch of a slot."""
    config = resources.config
    place = {"state_dir": config.state_dir, "kind": config.scratch.kind, "path": slot.path}
    return JobSpec(remount_scratch, place)


def mounting(resources: Resources, folders: Sequence[str]) -> JobSpec:
    """The mounting of folders that have a user."""
    place = {"state_dir": resources.config.state_dir}
    return JobSpec(mount_folders, {**place, "folders": list(folders)})


def _unmounted(resources: Resources, slot: Slot) -> list[str]:
    return resources.folders.unmounted([one.folder for one in slot.attachments])


def emptying(resources: Resources, slot: Slot) -> JobSpec:
    """The reclaim of a slot."""
    place = {"state_dir": resources.config.state_dir, "number": slot.number, "uid": slot.uid}
    return JobSpec(empty_slot, place)
