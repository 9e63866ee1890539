"""The file helper, a process that serves one request about the files of a session or a folder.

The warden forks and confines the helper before it resolves any name: the helper has the session's
uid, no capabilities, and a mount namespace with the session's scratch alone, without /proc. It then
serves the request that comes over its socket (wire/file_calls.py), and ends. The helper gets up to
four descriptors and opens files below them only:

    home     the workdir, which programs of the session may change meanwhile
    inbox    an empty directory of the same mount that programs cannot see, below stage/
    uploads  for virtual folders: as the inbox, and it stays from one request to the next
    tmp      for sessions: the directory that programs see as /tmp

The helper of a virtual folder sees that folder alone; its "/home/work" is the folder.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from ..errors import Invalid, SandboxdError
from .api_connection import ApiConnection
from .archive import archive, describe_file, read_file
from .checkpoint import serve_checkpoint
from .listing import as_item, describe_room, list_created, list_directory
from .mutations import make_directories, move, remove, rename
from .packing import send_archive
from .resumable import ResumableUpload, append, begin
from .unpacking import receive_archive
from .upload import receive_files


def serve(
    sock: socket.socket,
    home: int,
    inbox: int,
    uploads: int | None = None,
    tmp: int | None = None,
) -> None:
    """Serve the one request that comes over `sock`, a blocking SOCK_SEQPACKET socket.

    Every failure is answered, except that of a peer which has gone. The caller must close `sock`
    afterwards: a missing {"end": true} only shows at the end of the stream.
    """
    api = ApiConnection(sock)
    try:
        request = api.receive()
        if request is None or _dispatch_change(api, home, inbox, uploads, request):
            return
        if request == {"op": "checkpoint"} and tmp is not None:
            serve_checkpoint(api, {"work": home, "tmp": tmp}, inbox)
            return
        _dispatch(api, home, inbox, request)
    except ConnectionError:
        pass  # the api has closed its end, so there is no receiver of an answer
    except (SandboxdError, OSError) as error:
        with contextlib.suppress(ConnectionError):
            api.refuse(error)


def _dispatch_change(
    api: ApiConnection,
    home: int,
    inbox: int,
    uploads: int | None,
    request: dict[str, Any] | bytes,
) -> bool:
    """Serve a request that changes a folder; False for other requests. Raises Refused, OSError."""
    match request:
        case {"op": "mkdir", "paths": list(paths), "parents": bool(parents), "exist_ok": bool(ok)}:
            make_directories(api, home, _texts(paths), parents, ok)
        case {"op": "rename", "path": str(path), "name": str(name)}:
            rename(api, home, path, name)
        case {"op": "move", "path": str(path), "to": str(to)}:
            move(api, home, path, to)
        case {"op": "remove", "paths": list(paths), "recursive": bool(recursive)}:
            remove(api, home, inbox, _texts(paths), recursive)
        case {
            "op": "begin",
            "upload": str(id),
            "file": str(name),
            "size": int(size),
            "keep": list(keep),
        } if uploads is not None:
            begin(api, ResumableUpload(home, inbox, uploads, id, name, size), _texts(keep))
        case {"op": "append", "upload": str(id), "file": str(name), "size": int(size)} if (
            uploads is not None
        ):
            append(api, ResumableUpload(home, inbox, uploads, id, name, size))
        case _:
            return False
    return True


def _texts(values: list[Any]) -> list[str]:
    if not all(isinstance(value, str) for value in values):
        raise Invalid("paths must be texts")
    return values


def _dispatch(api: ApiConnection, home: int, inbox: int, request: dict[str, Any] | bytes) -> None:
    """Serve a request on a session's files or a folder. Raises Refused, OSError."""
    match request:
        case {"op": "upload"}:
            receive_files(api, home, inbox)
        case {"op": "unpack", "path": str(path)}:
            receive_archive(api, home, inbox, path)
        case {"op": "pack", "path": str(path), "match": list(match)}:
            send_archive(api, home, path, _texts(match))
        case {"op": "list", "path": str(path), "form": "items"}:
            list_directory(api, home, path, as_item)
        case {"op": "list", "path": str(path)}:
            list_directory(api, home, path)
        case {"op": "read", "path": str(path), "start": int(start), "end": int(end)} if (
            0 <= start <= end < 1 << 63
        ):
            read_file(api, home, path, start, end)
        case {"op": "read", "path": str(path)}:
            read_file(api, home, path)
        case {"op": "stat", "path": str(path)}:
            describe_file(api, home, path)
        case {"op": "usage"}:
            describe_room(api, home)
        case {"op": "archive", "paths": list(paths)} if all(isinstance(p, str) for p in paths):
            archive(api, home, paths)
        case {"op": "created", "path": str(path), "since": int() | float() as since} if (
            abs(since) < 1 << 53  # seconds; this excludes infinity and NaN
        ):
            list_created(api, home, path, since)
        case _:
            raise Invalid("this is no request to a file helper")
