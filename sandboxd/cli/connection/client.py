"""The command line's client of the session API, over a Unix socket or to an endpoint."""

from __future__ import annotations

import contextlib
import io
import json
import re
import secrets
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

import httpx

from ... import __version__
from ...errors import (
    INVALID_INPUT,
    Draining,
    Exists,
    FolderExists,
    Full,
    NotFound,
    QuotaExceeded,
    Refused,
    Unavailable,
)
from .endpoint import http_client

CALL_S = 60.0

USER_AGENT = f"sandboxd/{__version__}"

OPTIONS = {
    "config.resources.mem": "--mem", "config.resources.cpu": "--cpus",
    "config.resource_opts.": "--limit ", "config.environ.": "--env ", "config.environ": "--env",
    "config.workspace": "--workspace", "config.network": "--network",
    "options.timeout.build": "--build-timeout", "options.timeout.exec": "--timeout",
    "options.timeout": "--timeout", "options.clean": "--clean", "options.build": "--build",
    "options.exec": "--exec", "options.stdin": "--stdin", "image": "--image",
    "deadline": "--deadline", "config.mounts": "--folder", "name": "--name",
}  # fmt: skip
"""Fields of requests -> the options from which they come."""

HELD_S = 3.0
"""The time to live of a session without its holder: long enough for the moment between its creation
and the connection that holds it."""

PROBLEMS: dict[str, type[Refused] | type[Unavailable]] = {
    "server-frozen": Draining, "instance-not-available": Full, "quota-exceeded": QuotaExceeded,
    "vfolder-already-exists": FolderExists, "session-already-exists": Exists,
}  # fmt: skip
"""The ends of the types of problem documents -> the errors that a command treats in its own way."""

_LIMIT = re.compile(r"config\.resource_opts\.(\w+)")
"""A limit in a remedy of the api."""

_NO_FOLDER = re.compile(r"(Virtual folder (\S+) does not exist)\.")


_JSON = {"Content-Type": "application/json"}

Parameters = Mapping[str, str | int | list[str]]
"""The fields of a query."""


class ConnectionLost(Unavailable):
    """The connection broke, or no daemon listens."""


class Client:
    """One connection to the daemon at `socket`, a path or the URL of an endpoint. Problem documents
    become Refused or Unavailable.

    comes_back  the daemon is a service, which returns after a restart
    """

    def __init__(
        self, socket: str, comes_back: bool = True, timeout_s: float | None = CALL_S
    ) -> None:
        self.socket = socket
        self.comes_back = comes_back
        # The api words its advice for this client by the name (api/options/wording.py).
        agent = {"user-agent": USER_AGENT}
        self._http = http_client(socket, timeout=timeout_s, headers=agent)

    def another(self, timeout_s: float | None) -> Client:
        """Another connection to the same daemon."""
        return Client(self.socket, self.comes_back, timeout_s)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def call(self, method: str, path: str, body: Any = None, **kwargs: Any) -> Any:
        """One request; the JSON of its response, or None for an empty one. `kwargs` are those of
        httpx: `content`, for one, is a body of any length."""
        url = with_query(path, kwargs.pop("params", None))
        if body is not None:
            # The encoder of httpx takes UTF-8 alone, and the words of a shell are any bytes.
            kwargs |= {"content": json.dumps(body), "headers": _JSON}
        try:
            response = self._http.request(method, url, **kwargs)
        except httpx.HTTPError as error:
            raise ConnectionLost(f"the daemon does not answer: {error}") from None
        raise_for(response)
        return response.json() if response.content else None

    @contextlib.contextmanager
    def _stream(self, path: str, **kwargs: Any) -> Iterator[httpx.Response]:
        """The response to a GET, whose content comes while the block reads it."""
        try:
            with self._http.stream("GET", path, **kwargs) as response:
                if response.is_error:
                    response.read()
                raise_for(response)
                yield response
        except httpx.HTTPError as error:
            raise ConnectionLost(f"the daemon does not answer: {error}") from None

    def answers(self) -> bool:
        """Whether the daemon answers."""
        try:
            self._http.get("/healthz")
        except httpx.HTTPError:
            return False
        return True

    @contextlib.contextmanager
    def chunks(self, path: str) -> Iterator[Iterator[bytes]]:
        """The content of a file."""
        with self._stream(path) as response:
            yield response.iter_raw()

    @contextlib.contextmanager
    def lines(self, path: str) -> Iterator[Iterator[str]]:
        """The lines of a response that is a stream of text."""
        with self._stream(path) as response:
            yield response.iter_lines()

    def create(
        self, image: str, config: dict[str, Any], name: str = "", enqueue: bool = False
    ) -> dict[str, Any]:
        """A new session, which ends when nothing holds it; the daemon's description of it. With
        `enqueue` the session may wait for its turn."""
        body: dict[str, Any] = {
            "name": name or f"run-{secrets.token_hex(6)}",
            "image": image,
            "config": config,
            "reuseIfExists": False,
            "enqueueOnly": enqueue,
            "ttlSeconds": HELD_S,
        }
        try:
            description: dict[str, Any] = self.call("POST", "/session", body)
        except Exists:
            text = f"there is a session {name} already; 'sandboxd rm {name}' removes it"
            raise Exists(f"{text}, or choose another name") from None
        return description

    def put_archive(self, session: str, path: str, chunks: Iterable[bytes]) -> dict[str, Any]:
        """Unpack a tar in the directory `path` of /home/work, as a whole or not at all; the numbers
        of its `files`, `directories`, `links` and `bytes`."""
        counts: dict[str, Any] = self.call(
            "PUT", f"/session/{session}/archive", params={"path": path}, content=chunks,
            headers={"Content-Type": "application/x-tar"},
            timeout=httpx.Timeout(CALL_S, read=None),  # the disk may be slow
        )  # fmt: skip
        return counts

    @contextlib.contextmanager
    def get_archive(self, session: str, path: str, match: list[str]) -> Iterator[ArchiveStream]:
        """The tar of what matches one of the patterns `match` in the directory `path` of
        /home/work; without patterns, of everything there. Raises NotFound for no such directory."""
        url = with_query(f"/session/{session}/archive", {"path": path, "match": match})
        with self._stream(url) as response:
            yield ArchiveStream(response)


class ArchiveStream:
    """A tar that comes from the daemon.

    unmatched       patterns of the request that nothing matches
    left_out        names of entries that are no part of the tar, with the kind of each
    left_out_count  their number; `left_out` has the first of them
    """

    def __init__(self, response: httpx.Response) -> None:
        self.unmatched: list[str] = json.loads(response.headers.get("X-Sandboxd-Unmatched", "[]"))
        left_out = json.loads(response.headers.get("X-Sandboxd-Left-Out", "{}"))
        self.left_out: list[tuple[str, str]] = [(n, k) for n, k in left_out.get("entries", [])]
        self.left_out_count: int = left_out.get("count", 0)
        self._chunks = response.iter_raw()

    @contextlib.contextmanager
    def tar(self, advance: Callable[[int], object]) -> Iterator[tarfile.TarFile]:
        """The members, to be read once. `advance` is called with the bytes that have arrived."""
        source = _Chunks(self._chunks, advance)
        with tarfile.open(
            fileobj=source, mode="r|", bufsize=1 << 18, encoding="utf-8", errors="surrogateescape"
        ) as tar:
            yield tar
        while source.read(1 << 18):
            pass  # up to the end of the response, which shows that nothing is missing


class _Chunks(io.RawIOBase):
    """A stream that hands on chunks as they are, which tarfile allows."""

    def __init__(self, chunks: Iterator[bytes], advance: Callable[[int], object]) -> None:
        self._chunks = chunks
        self._advance = advance

    def read(self, size: int = -1) -> bytes:
        chunk = next(self._chunks, b"")
        self._advance(len(chunk))
        return chunk


def with_query(path: str, params: Parameters | None) -> str:
    """A path with a query. Bytes of names that are not UTF-8 go as they are, as %XX."""
    if not params:
        return path
    return f"{path}?{urlencode(params, doseq=True, errors='surrogateescape')}"


def raise_for(response: httpx.Response) -> None:
    """Raise the exception for a problem document (RFC 9457)."""
    if not response.is_error:
        return
    try:
        problem = response.json()
    except ValueError:
        problem = {}
    text = problem.get("msg") or problem.get("title") or f"HTTP status {response.status_code}"
    text = refusal_text(text, problem.get("data"))
    kind = PROBLEMS.get(str(problem.get("type", "")).rpartition("/")[2])
    if kind:
        raise kind(text)
    if response.status_code >= 500:
        raise Unavailable(text)
    if response.status_code == 404:
        missing = str(problem.get("title", "")).removeprefix("No such ").rstrip(".")
        raise NotFound(missing, text)
    raise Refused(text, problem.get("data"))


def refusal_text(text: str, data: Any) -> str:
    """A refusal in words of the command line: its text, and the fields that are wrong."""
    text = _LIMIT.sub(r"--limit \1=VALUE", text)
    text = _NO_FOLDER.sub(
        r"\1; make it with 'sandboxd folder create \2', or see 'sandboxd folder ls'", text
    )
    if isinstance(data, dict):  # a list in it is in the text already
        fields = [f"{option(key)}: {data[key]}" for key in data if not isinstance(data[key], list)]
        text = "; ".join(fields if text == INVALID_INPUT and fields else [text, *fields])
    return text


def option(field: str) -> str:
    """The option by which the user has set this field of a request; else the field."""
    for name, text in OPTIONS.items():
        if field.startswith(name):
            return text + field.removeprefix(name)
    return field
