"""The write of changed files to the disk of the host, before a request is answered with success."""

from __future__ import annotations

import errno

from ..errors import NoSpace
from ..jail.syscalls import syncfs


def sync_file_system(fd: int) -> None:
    """Write all changes in the file system of `fd`, files and directories, to the disk of the host.
    Raises NoSpace when the disk does not take them.

    One call serves all files of a request: syncfs(2) writes the blocks of the session's image and
    then, through the loop device, the image itself.
    """
    try:
        syncfs(fd)
    except OSError as error:
        if error.errno in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
            raise NoSpace("the server's disk did not take the data") from None
        raise
