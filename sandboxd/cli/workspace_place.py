"""The workspace of a command: a directory of this host, which its session sees without an upload.

A script that a CI system calls works in the place of its own directory there.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
from typing import Any

from ..errors import ConfigError
from ..model import HOME
from .reporter import Reporter

LOOKED_AT = 1000
"""Files by which the runtime of a workspace is detected, or a few more."""


def workspace_path(named: str) -> str:
    """The absolute path of the directory that the user has named. Raises ConfigError."""
    if os.geteuid() == 0:
        raise ConfigError("root has no workspaces: run this as the user whose directory it is")
    return os.path.realpath(named)


def use_workspace(config: dict[str, Any], named: str, say: Reporter) -> None:
    """Let the session of `config` see, as /home/work, the directory that the user has named. A
    virtual folder in it needs a directory of its name there, which is made. Raises ConfigError."""
    config["workspace"] = path = workspace_path(named)
    with contextlib.suppress(OSError):  # the daemon says what is wrong
        if os.stat(path).st_mode & stat.S_ISGID:
            say.warning(
                f"{path} has the set-group-ID bit, and new directories in it get the bit too; "
                "chmod, cp -a and tar -p of these fail in a session: take it away with chmod g-s"
            )
    for folder in config.get("mounts", []):
        with contextlib.suppress(OSError):  # it is there, or the daemon says what is wrong
            os.mkdir(os.path.join(path, os.path.basename(folder)))


def first_names(workspace: str) -> list[str]:
    """The names of files in a workspace, from the top on and without hidden directories; of a large
    one, only those that come first."""
    names: list[str] = []
    for folder, directories, files in os.walk(workspace):
        directories[:] = sorted(name for name in directories if not name.startswith("."))
        names += (os.path.relpath(os.path.join(folder, name), workspace) for name in files)
        if len(names) > LOOKED_AT:
            break
    return names


def place_of(facts: dict[str, Any], directory: str) -> tuple[str, str, str]:
    """Where a script that is called in `directory` works, by the description of its session: the
    path of the host that the session sees, this path inside, and the directory of the script.
    Without a workspace `directory` is taken for /home/work, although the files are not there."""
    workspace = facts["sandbox"].get("workspace")
    if not workspace:
        return directory, HOME, HOME
    path, inside = workspace["path"], workspace["inside"]
    relative = os.path.relpath(os.path.realpath(directory), path)
    if relative.split(os.sep)[0] == os.pardir:  # the system calls the script elsewhere
        relative = "."
    return path, inside, posixpath.normpath(posixpath.join(inside, relative))
