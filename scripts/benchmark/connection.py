"""A keep-alive connection to the daemon, for measurements.

Client and daemon share the cores of the host, so the CPU time of a client counts as the daemon's.
This one does as little as a client can: it writes a request, and reads head and body.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from .sandboxes import COMMAND

WAIT_S = 30
"""`options.wait` of a run: the daemon answers when the run is over, in one request."""

_TIMEOUT_S = 120.0
_CHUNK_MAX = 1 << 20


class RequestFailed(Exception):
    """A problem document of the daemon, as text."""


class Connection:
    """A connection to `address`: "unix:PATH" or "HOST:PORT".

    waits  the daemons know `options.wait`, as far as this process has seen
    """

    waits = True

    def __init__(self, address: str) -> None:
        if address.startswith("unix:"):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket.settimeout(_TIMEOUT_S)
            self._socket.connect(address.removeprefix("unix:"))
        else:
            host, _, port = address.rpartition(":")
            self._socket = socket.create_connection((host, int(port)), _TIMEOUT_S)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = self._socket.makefile("rb")

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._reader.close()
        self._socket.close()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """A request with JSON, and the JSON of its response."""
        content = b"" if body is None else json.dumps(body).encode()
        response = self.send(method, path, content, "application/json")
        return json.loads(response) if response else None

    def send(self, method: str, path: str, content: bytes, kind: str) -> bytes:
        """A request, and the body of its response. Raises RequestFailed."""
        status, headers = self._request(method, path, content, kind)
        if headers.get(b"transfer-encoding") == b"chunked":
            body = b"".join(self._reader.read(size) for size in self._chunks())
        else:
            body = self._reader.read(int(headers.get(b"content-length", b"0")))
        if status >= 400:
            raise RequestFailed(f"{method} {path}: {status} {body[:500]!r}")
        return body

    def download(self, path: str) -> int:
        """A GET request; the size of the body of its response, which comes in chunks and is
        dropped. Raises RequestFailed."""
        status, headers = self._request("GET", path)
        if status != 200 or headers.get(b"transfer-encoding") != b"chunked":
            raise RequestFailed(f"GET {path}: {status} {headers}")
        buffer, total = memoryview(bytearray(_CHUNK_MAX)), 0
        for size in self._chunks():
            total += self._reader.readinto(buffer[:size])
        return total

    def _request(
        self, method: str, path: str, content: bytes = b"", kind: str = ""
    ) -> tuple[int, dict[bytes, bytes]]:
        """Send a request; the status and the headers of its response."""
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n"
        if content:
            head += f"Content-Type: {kind}\r\n"
        self._socket.sendall(head.encode() + b"\r\n" + content)
        return self._head()

    def _head(self) -> tuple[int, dict[bytes, bytes]]:
        first = self._reader.readline()
        if not first:
            raise RuntimeError("the daemon closed the connection")
        headers = {}
        while (line := self._reader.readline().rstrip()) != b"":
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
        return int(first.split()[1]), headers

    def _chunks(self) -> Iterator[int]:
        """The sizes of the chunks of a body; the caller reads as many bytes."""
        while size := int(self._reader.readline(), 16):
            yield size
            self._reader.readline()
        self._reader.readline()

    def create(self, image: str = "sh", memory: str = "64m") -> str:
        """The id of a new session."""
        config = {"resources": {"mem": memory}}
        body = {"image": image, "config": config, "reuseIfExists": False}
        session: str = self.call("POST", "/session", body)["sessionId"]
        return session

    def delete(self, session: str) -> None:
        """End a session."""
        self.call("DELETE", f"/session/{session}")

    def run(self, session: str, command: str = " ".join(COMMAND)) -> str:
        """Run one exec step, from the request to the verdict; the text of its output.

        Raises RequestFailed, also when the command fails.
        """
        return self.finish(session, self.begin(session, command))

    def begin(self, session: str, command: str, until: dict[str, Any] | None = None) -> Any:
        """Begin a run; the first answer, which comes at its end or at what `until` says."""
        if until is not None and Connection.waits:
            call = {"mode": "batch", "code": ""}
            return self._execute(session, {**call, "options": {"exec": command, **until}})
        return self._begin(session, command)

    def finish(self, session: str, result: Any) -> str:
        """Follow the run of an answer to its end; the text of its output. Raises RequestFailed."""
        texts: list[str] = []
        while True:
            texts += [text for kind, text in result["console"] if kind in ("stdout", "stderr")]
            if result["status"] == "finished":
                break
            call = {"mode": "continue", "code": "", "runId": result["runId"]}
            result = self._execute(session, {**call, "options": _until()})
        if result["exitCode"] != 0:
            raise RequestFailed(f"the run failed: {result}")
        return "".join(texts)

    def _begin(self, session: str, command: str) -> Any:
        """The first answer. An older daemon does not know `options.wait`."""
        call = {"mode": "batch", "code": ""}
        if Connection.waits:
            try:
                return self._execute(session, {**call, "options": {"exec": command, **_until()}})
            except RequestFailed as error:
                if "options.wait" not in str(error):
                    raise
                Connection.waits = False
        return self._execute(session, {**call, "options": {"exec": command, **_until()}})

    def _execute(self, session: str, call: dict[str, Any]) -> Any:
        return self.call("POST", f"/session/{session}", call)["result"]


def _until() -> dict[str, Any]:
    """The option that says when a call returns: at the end of the run, or with the next news."""
    return {"wait": WAIT_S} if Connection.waits else {"live": True}
