"""A user of the host with a directory below a configured path, for tests of workspaces."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from sandboxd.config.folder_tables import WorkspacesConfig
from sandboxd.jail.idmap import Ids
from sandboxd.warden.slots.workspaces import User

from .sandbox import BareWarden, Sandbox, lease

USER = User(Ids(61001, 62001), (62001,))
OTHER = User(Ids(61002, 62002), (62002,))
"""Users of no account, apart from the slots of all tests. Uid and gid differ."""


def own(path: Path, user: User = USER, mode: int | None = None) -> Path:
    """Give a directory or file to a user."""
    os.chown(path, user.ids.uid, user.ids.gid, follow_symlinks=False)
    if mode is not None:
        path.chmod(mode)
    return path


def directory(root: Path, name: str = "checkout", user: User = USER) -> Path:
    """A new directory of a user."""
    path = root / name
    path.mkdir()
    return own(path, user, 0o755)


@contextmanager
def paths_of(warden: BareWarden, *paths: Path) -> Iterator[None]:
    """The paths of [workspaces] of a warden, as a reload would set them."""
    resources, before = warden.resources, warden.resources.config
    config = WorkspacesConfig(tuple(str(path) for path in paths))
    resources.renew(replace(before, workspaces=config))
    try:
        yield
    finally:
        resources.renew(before)


def granted(
    warden: BareWarden, path: Path | str, user: User = USER, place: str = ""
) -> dict[str, Any]:
    """The arguments of a lease for a session with this workspace."""
    session = str(uuid.uuid4())
    workspace = warden.resources.workspaces.grant(session, str(path), place, user)
    return {"session": session, "workspace": asdict(workspace)}


def leased(warden: BareWarden, path: Path | str, user: User = USER, place: str = "") -> Sandbox:
    """A slot whose session has the workspace `path`."""
    return lease(warden, **granted(warden, path, user, place))
