"""`python record.py`: the requests that this client sends when its user has asked for nothing more.

It runs in the client's own environment, against a server that only writes down what comes. The
requests go to standard output as JSON: a list of [method, path, query, body], body null for none.
tests/api/recorded.py keeps them.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

ANSWER = {
    "version": "v7.20230615", "manager": "record", "token": "t", "results": {}, "data": {},
    "sessionId": "0b2f6a52-6d1e-4c0b-9a4e-1f1f5f0f7a11",
    "id": "00000000-0000-0000-0000-000000000000",
}  # fmt: skip

requests: list[list[Any]] = []


class Recorder(BaseHTTPRequestHandler):
    """Writes each request down and answers it with the same object."""

    def answer(self) -> None:
        """One request of any method."""
        size = int(self.headers.get("content-length") or 0)
        text = self.rfile.read(size)
        target = urlsplit(self.path)
        is_json = "json" in self.headers.get("content-type", "")
        if target.path != "/":
            query = dict(parse_qsl(target.query, keep_blank_values=True))
            body = json.loads(text) if is_json and text else None
            requests.append([self.command, target.path, query, body])
        data = json.dumps(ANSWER).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = do_PATCH = do_PUT = do_HEAD = answer

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def main() -> None:
    """Record, and print the requests."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {
            "BACKEND_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HOME": home,
            "BACKEND_ENDPOINT_TYPE": "api", "XDG_STATE_HOME": f"{home}/state",
            "BACKEND_ACCESS_KEY": "A" * 20, "BACKEND_SECRET_KEY": "b" * 40, "LANG": "C.UTF-8",
        }  # fmt: skip
        os.chdir(home)
        Path("main.c").write_text("int main(void) { return 0; }\n")
        commands()
        sdk()
    server.shutdown()
    distinct = {json.dumps(request, sort_keys=True): request for request in requests}
    print(json.dumps(list(distinct.values())))


def commands() -> None:
    """The requests of the command line."""
    for line in (
        "run -t name gcc:latest main.c",
        "session create -t name gcc:latest",
        "session create -t name -v folder gcc:latest",
        "session rm name",
        "session ls name",
        "session logs name",
        "session restart name",
        "vfolder create folder local",
        "vfolder info folder",
    ):
        subprocess.run(
            [f"{Path(sys.executable).parent}/backend.ai", *line.split()],
            capture_output=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip


def sdk() -> None:
    """The requests of programs."""
    from ai.backend.client.session import Session  # type: ignore[import-not-found]  # reads the environment

    with Session() as api:
        session, folder = api.ComputeSession("name"), api.VFolder("folder")
        acts: list[Callable[[], Any]] = [
            lambda: api.ComputeSession.get_or_create("gcc:latest", name="name"),
            lambda: session.execute("run", "", mode="batch", opts={"exec": "./main"}),
            lambda: session.execute("run", "", mode="continue"),
            lambda: session.execute("run", "text", mode="input"),
            lambda: session.complete("pri"),
            session.get_info, session.get_logs, session.get_status_history, session.restart,
            session.interrupt, session.commit, session.destroy,
            lambda: session.rename("name-2"),
            lambda: session.list_files("."),
            lambda: session.download(["file"], dest="."),
            lambda: session.upload(["main.c"]),
            lambda: api.VFolder.create("folder"),
            api.VFolder.list, api.VFolder.list_hosts, api.VFolder.list_all_hosts,
            api.VFolder.list_allowed_types, folder.info, folder.delete,
            lambda: folder.mkdir("d"),
            lambda: folder.rename("folder-2"),
            lambda: folder.rename_file("a", "b"),
            lambda: folder.move_file("a", "b"),
            lambda: folder.delete_files(["a"]),
            lambda: folder.list_files("."),
            lambda: folder.update_options("folder", permission="ro"),
            lambda: api.VFolder.delete_by_id("00000000-0000-0000-0000-000000000000"),
        ]  # fmt: skip
        for act in acts:
            with contextlib.suppress(Exception):  # the answer fits few of the requests
                act()


if __name__ == "__main__":
    main()
