"""The command line's client of the session API, over the daemon's Unix socket."""

from __future__ import annotations

import mmap
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from typing import Any, BinaryIO
from urllib.parse import quote

import httpx

from .. import __version__
from ..errors import ConfigError, NotFound, Refused, Unavailable
from .unpack import unpack

CALL_S = 60.0

USER_AGENT = f"sandboxd/{__version__}"

INVALID = "Input validation error"
"""The message of the api beside fields that say more."""

OPTIONS = {
    "config.resources.mem": "--mem", "config.resources.cpu": "--cpus",
    "config.resource_opts.": "--limit ", "config.environ.": "--env ", "config.environ": "--env",
    "options.timeout": "--timeout", "options.clean": "--clean", "options.build": "--build",
    "options.exec": "--exec", "options.stdin": "--stdin", "image": "--image",
    "deadline": "--deadline",
}  # fmt: skip
"""Fields of requests -> the options from which they come."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A local file and its name below /home/work."""

    path: str
    name: str
    size: int


class ConnectionLost(Unavailable):
    """The connection broke, or no daemon listens."""


class Client:
    """One connection to the daemon at `socket`. Problem documents become Refused or Unavailable.

    comes_back  the daemon is a service, which returns after a restart
    """

    def __init__(self, socket: str, comes_back: bool = True) -> None:
        self.socket = socket
        self.comes_back = comes_back
        transport = httpx.HTTPTransport(uds=socket)
        # The api words its advice for this client by the name (api/sessions/wording.py).
        agent = {"user-agent": USER_AGENT}
        self._http = httpx.Client(
            transport=transport, base_url="http://sandboxd", timeout=CALL_S, headers=agent
        )

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def call(self, method: str, path: str, body: Any = None, **kwargs: Any) -> Any:
        """One request; the JSON of its response, or None for an empty one."""
        try:
            response = self._http.request(method, path, json=body, **kwargs)
        except httpx.HTTPError as error:
            raise ConnectionLost(f"the daemon does not answer: {error}") from None
        raise_for(response)
        return response.json() if response.content else None

    def create(self, image: str, config: dict[str, Any]) -> dict[str, Any]:
        """A new session; the daemon's description of it."""
        name = f"run-{secrets.token_hex(6)}"
        body = {"name": name, "image": image, "config": config, "reuseIfExists": False}
        description: dict[str, Any] = self.call("POST", "/session", body)
        return description

    def upload(self, session: str, files: list[LocalFile]) -> None:
        """Put at most 20 files into the session's /home/work."""
        boundary = secrets.token_hex(16)
        try:
            response = self._http.post(
                f"/session/{session}/upload",
                content=_multipart(files, boundary),
                headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
            )
        except OSError as error:
            raise ConfigError(f"{error.filename}: {error.strerror}") from None
        except httpx.HTTPError as error:
            raise Unavailable(f"the daemon does not answer: {error}") from None
        raise_for(response)

    def download(self, session: str, paths: list[str], into: str) -> list[str]:
        """Unpack at most 5 paths of /home/work into the directory `into`; the new names there."""
        names: list[str] = []
        with self._http.stream(
            "POST", f"/session/{session}/download", json={"files": paths}
        ) as response:
            if response.is_error:
                response.read()
            raise_for(response)
            with tempfile.TemporaryFile() as spool:
                for chunk in response.iter_bytes():
                    spool.write(chunk)
                for part in _parts(spool, response.headers["content-type"]):
                    names += unpack(part, into)
        return names


def raise_for(response: httpx.Response) -> None:
    """Raise the exception for a problem document (RFC 7807)."""
    if not response.is_error:
        return
    try:
        problem = response.json()
    except ValueError:
        problem = {}
    text = problem.get("msg") or problem.get("title") or f"HTTP status {response.status_code}"
    data = problem.get("data")
    if isinstance(data, dict):  # a list in it is in the text already
        fields = [f"{option(key)}: {data[key]}" for key in data if not isinstance(data[key], list)]
        text = "; ".join(fields if text == INVALID and fields else [text, *fields])
    if response.status_code >= 500:
        raise Unavailable(text)
    if response.status_code == 404:
        raise NotFound("", text)
    raise Refused(text)


def option(field: str) -> str:
    """The option by which the user has set this field of a request; else the field."""
    for name, text in OPTIONS.items():
        if field.startswith(name):
            return text + field.removeprefix(name)
    return field


def _multipart(files: list[LocalFile], boundary: str) -> Iterator[bytes]:
    """A form of `files`; names percent-encoded as the Backend.AI client does."""
    for file in files:
        name = quote(os.fsencode(file.name), safe="")
        source = os.fdopen(os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW), "rb")
        executable = os.fstat(source.fileno()).st_mode & stat.S_IXUSR
        yield (
            f"--{boundary}\r\n"
            f'Content-Disposition: form-data; name="src"; filename="{name}"\r\n'
            f"X-Sandboxd-Mode: {'755' if executable else '644'}\r\n"
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        with source:
            while chunk := source.read(1 << 16):
                yield chunk
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def _parts(spool: BinaryIO, content_type: str) -> Iterator[BinaryIO]:
    """The bodies of a multipart/mixed response, each in a file of its own."""
    header = Message()
    header["Content-Type"] = content_type
    mark = b"\r\n--" + str(header.get_param("boundary")).encode()
    spool.seek(0)
    size = os.fstat(spool.fileno()).st_size
    if size == 0:
        return
    with mmap.mmap(spool.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = data.find(mark[2:])
        while at >= 0 and data[at + len(mark) - 2 : at + len(mark)] != b"--":
            begin = data.find(b"\r\n\r\n", at) + 4
            end = data.find(mark, begin)
            if begin < 4 or end < 0:
                raise Unavailable("the download was cut off")
            with tempfile.TemporaryFile() as part:
                for offset in range(begin, end, 1 << 20):
                    part.write(data[offset : min(offset + (1 << 20), end)])
                part.seek(0)
                yield part
            at = end + 2
