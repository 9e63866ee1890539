"""Which virtual folders a new session gets, and where. No I/O.

Clients name them in `mounts` (or, by UUID, `mount_ids`), give some another place in `mount_map`
(`mount_id_map`), and options in `mount_options`. A place is a name in /home/work: deeper ones
would have parents that programs can move away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...errors import Invalid
from ...model import ATTACHMENTS_MAX, FOLDER_NAME, HOME, Attachment
from ...store.folders import FolderRow

_PERMISSIONS = ("ro", "rw", "wd")


def attachments(
    names: list[Any],
    places: Mapping[str, Any],
    options: Mapping[str, Any],
    find: Callable[[str], FolderRow],
) -> tuple[Attachment, ...]:
    """The folders `names`, each the name or UUID of one that `find` knows.

    Raises Invalid for what cannot be mounted so, and what `find` raises.
    """
    if len(names) > ATTACHMENTS_MAX:
        raise _bad("mounts", f"at most {ATTACHMENTS_MAX} virtual folders")
    for where, given in (("mount_map", places), ("mount_options", options)):
        if strangers := sorted(set(given) - {name for name in names if isinstance(name, str)}):
            raise _bad(f"{where}.{strangers[0]}", "only what is in mounts")
    found = tuple(_attachment(name, places, options, find) for name in names)
    for what in ("folder", "name"):
        if len({getattr(one, what) for one in found}) < len(found):
            raise _bad("mounts", f"each {what} only once")
    return found


def _attachment(
    name: Any,
    places: Mapping[str, Any],
    options: Mapping[str, Any],
    find: Callable[[str], FolderRow],
) -> Attachment:
    if not isinstance(name, str):
        raise _bad("mounts", "names of virtual folders")
    row = find(name)
    place = _place(places.get(name) or row.name, f"mount_map.{name}")
    return Attachment(row.id, place, _read_only(row, options.get(name), f"mount_options.{name}"))


def _place(place: Any, where: str) -> str:
    """The name in /home/work that `place`, relative or absolute, means."""
    text = place.removeprefix(f"{HOME}/").removesuffix("/") if isinstance(place, str) else ""
    if not FOLDER_NAME.fullmatch(text):
        raise _bad(where, f"NAME or {HOME}/NAME, of ASCII letters, digits, _ . or -")
    return text


def _read_only(row: FolderRow, options: Any, where: str) -> bool:
    if options is not None and not isinstance(options, dict):
        raise _bad(where, "an object")
    asked = (options or {}).get("permission") or row.permission
    if asked not in _PERMISSIONS:
        raise _bad(f"{where}.permission", f"one of {', '.join(_PERMISSIONS)}")
    if row.permission == "ro" and asked != "ro":
        raise _bad(f"{where}.permission", "ro, as the folder has it")
    return bool(asked == "ro")


def _bad(where: str, allowed: str) -> Invalid:
    return Invalid("Input validation error", {f"config.{where}": f"allowed: {allowed}"})
