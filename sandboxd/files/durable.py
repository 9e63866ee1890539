"""What a client is told to be done is on the disk by then."""

from __future__ import annotations

import errno

from ..errors import NoSpace
from ..jail.syscalls import syncfs


def settle(home: int) -> None:
    """Write all that has changed in the file system of `home`, files and directories, to the
    disk of the host. Raises NoSpace when that does not take it.

    One call for all files of a request: syncfs(2) has the image's blocks and then, by the loop
    device, those of the image itself written.
    """
    try:
        syncfs(home)
    except OSError as error:
        if error.errno in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
            raise NoSpace("the server's disk does not take what was written") from None
        raise
