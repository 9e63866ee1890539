"""The file helper: one process for one request about one session's files.

The warden forks it and confines it before any name is looked at: it has the session's uid, no
capabilities, and a mount view that holds the session's scratch alone, without /proc. Then it
serves the request that comes over its socket (filewire.py) and is gone. It gets two descriptors
and opens nothing but below them:

    home    the work directory, which programs of the session may be changing meanwhile
    stage   an empty directory of the same mount that programs cannot see: uploads wait there
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from ..errors import Invalid, SandboxdError
from .archive import archive, read_file
from .conversation import Conversation
from .listing import list_created, list_directory
from .upload import receive_files


def serve(sock: socket.socket, home: int, stage: int) -> None:
    """Serve the one request that comes over `sock`, a blocking SOCK_SEQPACKET socket.

    Whatever is wrong is answered; a peer that goes away ends the call quietly. The caller
    closes `sock`, and must: a missing {"end": true} only shows at the end of the stream.
    """
    conversation = Conversation(sock)
    try:
        request = conversation.receive()
        if request is not None:
            _dispatch(conversation, home, stage, request)
    except ConnectionError:
        pass  # the api has closed its end: nobody is left to tell
    except (SandboxdError, OSError) as error:
        with contextlib.suppress(ConnectionError):
            conversation.refuse(error)


def _dispatch(
    conversation: Conversation, home: int, stage: int, request: dict[str, Any] | bytes
) -> None:
    """The whole table of requests. Raises Refused, OSError."""
    match request:
        case {"op": "upload"}:
            receive_files(conversation, home, stage)
        case {"op": "list", "path": str(path)}:
            list_directory(conversation, home, path)
        case {"op": "read", "path": str(path)}:
            read_file(conversation, home, path)
        case {"op": "archive", "paths": list(paths)} if all(isinstance(p, str) for p in paths):
            archive(conversation, home, paths)
        case {"op": "created", "path": str(path), "since": int() | float() as since} if (
            abs(since) < 1 << 53  # seconds, and neither infinite nor no number
        ):
            list_created(conversation, home, path, since)
        case _:
            raise Invalid("this is no request to a file helper")
