"""Workspaces as clients request them and see them. The warden looks at the directories. No I/O."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypedDict

from ...errors import Invalid
from ...model import Attachment, Workspace
from ...store.sessions import SessionRow
from ...wire.kinds import PATH_MAX
from ..options.texts import stored
from .session import Session


class WorkspaceFacts(TypedDict):
    """The workspace of a session: its path on the host, and inside; the user whose it is. The
    session does not bound its size. `shared` is the number of other sessions that see the same
    files."""

    path: str
    inside: str
    uid: int
    gid: int
    bounded: bool
    shared: int


def host_path(text: str) -> str:
    """The path of a request, without a / at its end. Raises Invalid for one that is not plain."""
    path = stored(text, "config.workspace").rstrip("/")
    is_plain = path == os.path.normpath(path) and not path.startswith("//")
    is_short = len(path.encode()) <= PATH_MAX
    if not path.startswith("/") or not is_plain or not is_short or "\0" in path:
        allowed = (
            f"allowed: an absolute path of this host without ., .. and //, of {PATH_MAX} bytes"
        )
        raise Invalid.of({"config.workspace": allowed})
    return path


def check_place(place: str, attachments: Iterable[Attachment]) -> None:
    """Raise Invalid when a virtual folder has the place of a workspace."""
    if place and place in [attachment.name for attachment in attachments]:
        text = "a virtual folder has this place"
        raise Invalid.of({"config.workspace_place": text})


def sharing(workspace: Workspace, sessions: Iterable[Session], id: str) -> int:
    """How many `sessions` but that with the UUID `id` see files of this workspace."""
    others = [one.row.workspace for one in sessions if one.row.id != id]
    return sum(_overlap(workspace.path, other.path) for other in others if other)


def _overlap(one: str, other: str) -> bool:
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")


def facts(row: SessionRow, sessions: Iterable[Session]) -> WorkspaceFacts | None:
    """The workspace of a session as a description has it, among all `sessions`."""
    workspace = row.workspace
    if workspace is None:
        return None
    return {
        "path": workspace.path,
        "inside": workspace.inside,
        "uid": workspace.uid,
        "gid": workspace.gid,
        "bounded": False,
        "shared": sharing(workspace, sessions, row.id),
    }
