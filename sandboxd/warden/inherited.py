"""The descriptors that another interpreter of root has from the warden (interpreter.py).

The spawner imports this module, and forks with all that it has imported. So it needs little.
"""

from __future__ import annotations

import os
import socket

SOCKET, VALUES = 3, 4
"""Their numbers: the socket to the warden, and the file with the values of the interpreter."""


def warden_socket() -> socket.socket:
    """In the new interpreter: its socket. Neither descriptor goes to children."""
    for fd in (SOCKET, VALUES):
        os.set_inheritable(fd, False)
    return socket.socket(fileno=SOCKET)
