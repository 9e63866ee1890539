"""The copies of files and directories into a virtual folder, and out of it.

Programs of sessions may have written the folder. So names that act on programs of the host stay
behind, as with results (acceptance.py), and in the other direction, too: what is copied in comes
out again. The copy of a directory has no more bytes than the folder may have.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import Any
from urllib.parse import quote

from ...errors import ConfigError, Refused
from ..connection.client import Client
from ..connection.references import folder_path
from ..reporter import Reporter, printable
from .acceptance import COMPLETES, Room, completes_repository, is_head, is_version_control
from .local_tree import LocalTree
from .results import check_destination

CHUNK = 1 << 20
UPLOAD, DOWNLOAD = "/folders/_/tus/upload", "/folders/_/download"
INCLUDE = "--include-vcs copies it"


class FolderCopy:
    """The copies of one command to and from the folder `name`.

    include_vcs  .git, .hg and .svn are copied, and all that is a repository of git
    """

    def __init__(self, client: Client, name: str, say: Reporter, include_vcs: bool) -> None:
        self._client, self._name, self._say = client, name, say
        self._include_vcs = include_vcs
        self._room = Room.of_folder(client, name)

    # -- into the folder

    def send(self, source: str, path: str) -> None:
        """Copy a file or a directory of this host to `path`. Raises SandboxdError."""
        base = os.path.basename(os.path.abspath(source))
        if not path.strip("/") or path.endswith("/") or self._listed(path) is not None:
            path = f"{path.strip('/')}/{base}".lstrip("/")
        if not os.path.isdir(source):
            self._send_file(source, path)
            return
        with LocalTree(source, self._excludes, self._say) as tree:
            self._make_directory(path)
            for entry in tree.entries():
                there = f"{path}/{entry.name}"
                if entry.is_file:
                    self._send_file(os.path.join(source, entry.name), there)
                elif entry.target:
                    self._say.warning(f"{tree.shown(entry.name)} is a link; left out")
                else:
                    self._make_directory(there)

    def _excludes(self, name: str, _: bool) -> bool:
        return self._is_left_behind(name)

    def _make_directory(self, path: str) -> None:
        body = {"path": path, "parents": True, "exist_ok": True}
        self._client.call("POST", f"{folder_path(self._name)}/mkdir", body)

    def _send_file(self, source: str, path: str) -> None:
        try:
            with open(source, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                token = self._token("request-upload", {"path": path, "size": size})
                if size:
                    headers = {
                        "Tus-Resumable": "1.0.0",
                        "Upload-Offset": "0",
                        "Content-Type": "application/offset+octet-stream",
                    }
                    content = iter(lambda: file.read(CHUNK), b"")
                    url = f"{UPLOAD}?token={token}"
                    self._client.call("PATCH", url, content=content, headers=headers)
        except OSError as error:
            raise ConfigError(f"{source}: {error.strerror}") from None

    # -- out of the folder

    def fetch(self, path: str, destination: str) -> None:
        """Copy a file or a directory at `path` to this host. Raises SandboxdError."""
        base = os.path.basename(path.rstrip("/")) or self._name
        if os.path.isdir(destination):
            destination = os.path.join(destination, base)
        check_destination(destination)
        entries = self._listed(path or ".")
        self._room.measure()
        if entries is None:
            self._fetch_file(path, destination)
        else:
            named = any(part.lower().endswith(".git") for part in path.split("/"))
            self._fetch_directory(path, destination, entries, named or self._include_vcs)

    def _fetch_directory(
        self, path: str, destination: str, entries: list[dict[str, Any]], is_repository: bool
    ) -> None:
        """Copy a directory; `is_repository`: it may be, or have, a repository of git."""
        try:
            os.makedirs(destination, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{destination}: {error.strerror}; name another place") from None

        def is_there(name: str) -> bool:
            return os.path.lexists(os.path.join(destination, name))

        for entry in sorted(entries, key=lambda one: is_head(one["name"])):
            name = os.path.basename(entry["name"])
            child, local = f"{path}/{name}".lstrip("/"), os.path.join(destination, name)
            if self._is_left_behind(child):
                continue
            if not is_repository and completes_repository(name, is_there):
                self._say.warning(f"{printable(child)} {COMPLETES}; left out ({INCLUDE})")
                continue
            if os.path.islink(local):
                raise ConfigError(f"{local} is a link; remove it first")
            if entry["type"] == "FILE":
                self._fetch_file(child, local)
            elif entry["type"] == "DIRECTORY":
                self._fetch_directory(child, local, self._listed(child) or [], is_repository)
            else:
                self._say.warning(f"{printable(child)} is no file or directory; left out")

    def _fetch_file(self, path: str, destination: str) -> None:
        token, size = self._token("request-download", {"path": path}), 0
        parent = os.path.dirname(os.path.abspath(destination))
        with tempfile.NamedTemporaryFile(dir=parent, prefix=".sandboxd-", delete=False) as file:
            try:
                with self._client.chunks(f"{DOWNLOAD}?token={token}") as chunks:
                    for chunk in chunks:
                        size += len(chunk)
                        self._room.take(tuple(path.split("/")), size)
                        file.write(chunk)
                file.flush()
                os.chmod(file.name, 0o644)
                os.replace(file.name, destination)
            except BaseException:  # an interrupt, too, leaves no part of a file
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(file.name)
                raise

    # -- both directions

    def _is_left_behind(self, path: str) -> bool:
        """Report an entry of a directory that version control acts on."""
        if self._include_vcs or not is_version_control(path.rpartition("/")[2]):
            return False
        self._say.warning(f"{printable(path)} belongs to version control; left out ({INCLUDE})")
        return True

    def _token(self, request: str, body: dict[str, Any]) -> str:
        token = self._client.call("POST", f"{folder_path(self._name)}/{request}", body)["token"]
        return quote(token, safe="")

    def _listed(self, path: str) -> list[dict[str, Any]] | None:
        """The entries of a directory; None: it is none."""
        try:
            answer = self._client.call(
                "GET", f"{folder_path(self._name)}/files", params={"path": path}
            )
        except Refused:
            self._client.call("GET", folder_path(self._name))  # raises if there is no such folder
            return None
        items: list[dict[str, Any]] = answer["items"]
        return items
