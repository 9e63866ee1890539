"""A coordinator of GitLab's form for tests: repositories over git's smart HTTP, and artifacts.

It asks for the token of a job, as GitLab does. The repositories are served by git's own backend.
"""

from __future__ import annotations

import base64
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ADDRESS = "127.0.0.2"
"""An address of the loopback that is not in `no_proxy` of a session."""

TOKEN = "token-of-the-job-3f9c"


class Coordinator(ThreadingHTTPServer):
    """The server. `artifacts` has the bytes of each job's upload; `paths` all requests."""

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__((ADDRESS, 0), _Handler)
        self.root = root
        self.artifacts: dict[str, bytes] = {}
        self.paths: list[str] = []

    @property
    def address(self) -> str:
        """HOST:PORT, as a network profile has it."""
        return f"{ADDRESS}:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Coordinator

    def do_GET(self) -> None:
        """Serve git, or the artifacts of a job."""
        self.server.paths.append(self.path)
        if self.path.startswith("/api/"):
            data = self.server.artifacts.get(self.path)
            self._answer(404 if data is None else 200, data or b"")
        else:
            self._git(b"")

    def do_POST(self) -> None:
        """Serve git, or take the artifacts of a job."""
        self.server.paths.append(self.path)
        body = self._body()
        if not self.path.startswith("/api/"):
            self._git(body)
        elif self.headers.get("JOB-TOKEN") == TOKEN:
            self.server.artifacts[self.path] = body
            self._answer(201, b"")
        else:
            self._answer(403, b"")

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _git(self, body: bytes) -> None:
        user = base64.b64encode(f"gitlab-ci-token:{TOKEN}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {user}":
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="GitLab"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        environ = {
            "PATH": "/usr/bin:/bin", "GIT_PROJECT_ROOT": str(self.server.root),
            "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path, "QUERY_STRING": query,
            "REQUEST_METHOD": self.command, "REMOTE_USER": "gitlab-ci-token",
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""), "HOME": "/nonexistent",
            "CONTENT_LENGTH": str(len(body)), "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
        }  # fmt: skip
        done = subprocess.run(["git", "http-backend"], env=environ, input=body, capture_output=True)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        self._answer(int(fields.pop("Status", "200").split()[0]), content, fields)

    def _answer(self, status: int, content: bytes, fields: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (fields or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@contextmanager
def coordinator(root: Path) -> Iterator[Coordinator]:
    """A coordinator that serves the repositories below `root`."""
    server = Coordinator(root)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
