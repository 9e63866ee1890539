"""A view of our code for the unprivileged api, when the checkout lies in a closed directory.

Another uid cannot enter a clone in a home directory or below a private temporary directory. A copy
of the code, or open directories, would be worse. So the api gets a mount namespace in which the
directories that Python imports from are bound, read-only, below the state directory.
"""

from __future__ import annotations

import os
import sys

from ..jail import syscalls
from ..jail.chroot import own_mounts
from ..jail.mounts import READ_ONLY, clone
from ..jail.stage import stage


def first_closed(path: str, uid: int) -> str | None:
    """The first directory or file on the way to `path` that `uid`, in no group, may not use."""
    current = ""
    for part in os.path.realpath(path).split("/")[1:]:
        current += f"/{part}"
        status = os.stat(current)
        bits = status.st_mode >> 6 if status.st_uid == uid else status.st_mode
        if not bits & (0o1 if os.path.isdir(current) else 0o4):
            return current
    return None


def closed_imports(uid: int) -> list[str]:
    """The entries of sys.path that `uid` cannot reach."""
    return [p for p in dict.fromkeys(sys.path) if os.path.isdir(p) and first_closed(p, uid)]


def open_imports(uid: int, view: str) -> None:
    """Make every closed entry of sys.path readable for `uid`, below the directory `view`.

    The process that becomes the api calls it before it gives up root. The process moves into a
    mount namespace of its own if there is a closed entry.
    """
    closed = closed_imports(uid)
    if not closed:
        return
    with stage("api view"):
        own_mounts()
        os.makedirs(view, exist_ok=True)
        os.chmod(view, 0o711)
        for number, path in enumerate(closed):
            target = f"{view}/{number}"
            os.makedirs(target, exist_ok=True)
            _bind(path, target)
            sys.path[:] = [target if entry == path else entry for entry in sys.path]
            _move_packages(path, target)
    sys.path_importer_cache.clear()


def _bind(path: str, target: str) -> None:
    fd = clone(path)
    syscalls.mount_setattr(fd, READ_ONLY)
    syscalls.move_mount(fd, target)
    os.close(fd)


def _move_packages(path: str, target: str) -> None:
    """Let packages that are loaded already look for their other modules in the new place."""
    for module in list(sys.modules.values()):
        places = getattr(module, "__path__", None)
        if isinstance(places, list):
            places[:] = [
                target + place[len(path) :] if place.startswith(f"{path}/") else place
                for place in places
            ]
