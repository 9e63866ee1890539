"""Scratches: the writable file systems of sessions, each of a fixed size that the kernel enforces.

The kind "image" is an ext4 image (images.py); a session that fills it fills nothing else. A blank
image of each size is made once and copied, which is cheaper than mkfs. The kind "tmpfs" is for
hosts without loop devices.

In a scratch:   work/   /home/work         tmp/   /tmp         stage/   the inboxes of file helpers

Scratches are mounted in the warden's own mount namespace; the host's mount table does not change.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time

from ...config.settings import ScratchConfig
from ...jail import syscalls
from ...jail.mounts import clone
from ...jail.stage import stage
from ...model import GIB
from . import images

INBOXES = 16
"""Places for uploads on their way. Each file helper takes one. They are made in advance, since a
full scratch has no room for a directory and must still be listed and downloaded."""

STAGE = "stage"
"""The directory of the inboxes. It is never empty."""

DIRECTORIES = {"work": 0o755, "tmp": 0o1777, STAGE: 0o700} | {
    f"{STAGE}/{number}": 0o700 for number in range(INBOXES)
}

UNMOUNT_S = 1.0
"""How long a mount may take to go after the last process that saw it."""

BLANK = "-tree.ext4"
"""The end of the name of a blank."""


class ScratchMaker:
    """Makes, mounts and removes the scratches of one daemon."""

    def __init__(self, config: ScratchConfig, state_dir: str) -> None:
        self._config = config
        self._blanks = f"{state_dir}/blank"
        os.makedirs(self._blanks, mode=0o700, exist_ok=True)

    def make(self, slot_path: str, uid: int, size: int, inodes: int) -> None:
        """Make and mount the scratch of a new slot, its directories owned by `uid`."""
        with stage("scratch"):
            if self._config.kind == "image":
                self._copy_blank(f"{slot_path}/image", size, inodes)
            self.mount(slot_path, size, inodes)
            if self._config.kind == "tmpfs":
                make_directories(f"{slot_path}/scratch")
            for name in DIRECTORIES:
                os.chown(f"{slot_path}/scratch/{name}", uid, uid)

    def mount(self, slot_path: str, size: int, inodes: int) -> None:
        """Mount the scratch of a slot; read back that it is a mount of that size."""
        target = f"{slot_path}/scratch"
        with stage("scratch"):
            if self._config.kind == "tmpfs":
                options = f"size={size},nr_inodes={inodes},mode=755"
                syscalls.mount("none", target, "tmpfs", images.FLAGS, options)
            else:
                images.mount(f"{slot_path}/image", target)
            images.verify(target, size)

    def remount(self, slot_path: str) -> None:
        """Mount the scratch of a slot anew, which has an image. This waits for the disk."""
        self.unmount(slot_path)
        deadline = time.monotonic() + UNMOUNT_S
        while images.attached(f"{slot_path}/image") and time.monotonic() < deadline:
            time.sleep(0.01)  # a process that has just ended holds it; if it stays, nothing changes
        self.mount(slot_path, 1024 * GIB, 0)

    def unmount(self, slot_path: str) -> None:
        """Unmount the scratch of a slot, also while a process uses it."""
        images.unmount(f"{slot_path}/scratch")

    def _copy_blank(self, image: str, size: int, inodes: int) -> None:
        """A fresh image at `image`, copied from the blank of its size, which has the directories
        already: they are the dearest part of a scratch."""
        blank = f"{self._blanks}/{size}-{inodes}{BLANK}"
        if not os.path.exists(blank):
            with tempfile.TemporaryDirectory(".new", dir=self._blanks) as tree:
                make_directories(tree)
                images.make(blank, size, inodes, tree)
        with open(blank, "rb") as source, open(image, "xb") as copy, contextlib.ExitStack() as undo:
            undo.callback(os.unlink, image)
            images.copy_sparse(source.fileno(), copy.fileno(), size)
            undo.pop_all()


def make_directories(root: str) -> None:
    """Make the directories of a scratch below `root`, owned by root."""
    for name, mode in DIRECTORIES.items():
        os.mkdir(f"{root}/{name}")
        os.chmod(f"{root}/{name}", mode)


def clone_into(stack: contextlib.ExitStack, path: str) -> int:
    """A detached clone of the mount tree at `path`, which `stack` closes."""
    fd = clone(path)
    stack.callback(os.close, fd)
    return fd
