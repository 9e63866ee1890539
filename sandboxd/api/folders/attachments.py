"""The attachments of a new session: its virtual folders and their places. No I/O.

Clients name the folders in `mounts` (or, by UUID, in `mount_ids`), other places for them in
`mount_map` (`mount_id_map`), and options in `mount_options`. A place is a name in /home/work: a
deeper place would have parents that programs can move away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...errors import Invalid
from ...model import ATTACHMENTS_MAX, FOLDER_NAME, HOME, Attachment
from ...store.folders import FolderRow
from ..access import unserved

_PERMISSIONS = ("ro", "rw", "wd")


def attachments(
    names: list[Any],
    places: Mapping[str, Any],
    options: Mapping[str, Any],
    find: Callable[[str], FolderRow],
) -> tuple[Attachment, ...]:
    """The attachments of the folders `names`; `find` has the folder of a name or UUID.

    Raises Invalid for attachments that are not possible, and the errors of `find`.
    """
    if len(names) > ATTACHMENTS_MAX:
        raise _bad("mounts", f"at most {ATTACHMENTS_MAX} virtual folders")
    known = {name for name in names if isinstance(name, str)}
    for where, entries in (("mount_map", places), ("mount_options", options)):
        if unknown := sorted(set(entries) - known):
            raise _bad(f"{where}.{unknown[0]}", "only names that are in mounts")
    result = tuple(_attachment(name, places, options, find) for name in names)
    for field in ("folder", "name"):
        if len({getattr(each, field) for each in result}) < len(result):
            raise _bad("mounts", f"each {field} only once")
    return result


def _attachment(
    name: Any,
    places: Mapping[str, Any],
    options: Mapping[str, Any],
    find: Callable[[str], FolderRow],
) -> Attachment:
    if not isinstance(name, str):
        raise _bad("mounts", "names of virtual folders")
    row = find(name)
    place = name_in_home(places.get(name) or row.name, f"mount_map.{name}")
    return Attachment(row.id, place, _read_only(row, options.get(name), f"mount_options.{name}"))


def name_in_home(place: Any, where: str) -> str:
    """The name in /home/work for `place`, which is relative or absolute. Raises Invalid."""
    text = place.removeprefix(f"{HOME}/").removesuffix("/") if isinstance(place, str) else ""
    if not FOLDER_NAME.fullmatch(text):
        raise _bad(where, f"NAME or {HOME}/NAME, of ASCII letters, digits, _ . or -")
    return text


def _read_only(row: FolderRow, options: Any, where: str) -> bool:
    if options is not None and not isinstance(options, dict):
        raise _bad(where, "an object")
    options = options or {}
    rest = {key: value for key, value in options.items() if key != "permission"}
    unserved.check(rest, "mount_options", ["permission"], f"config.{where}")
    permission = options.get("permission") or row.permission
    if permission not in _PERMISSIONS:
        raise _bad(f"{where}.permission", f"one of {', '.join(_PERMISSIONS)}")
    if row.permission == "ro" and permission != "ro":
        raise _bad(f"{where}.permission", "ro, as the folder has it")
    return bool(permission == "ro")


def _bad(where: str, allowed: str) -> Invalid:
    return Invalid.of({f"config.{where}": f"allowed: {allowed}"})
