"""`sandboxd run`: uploads a folder, builds and runs it, shows its console live, and downloads
results.

The program's standard output goes to standard output, and its standard error to standard error.
Messages of sandboxd go to standard error too, in lines of their own. When the program waits for
input, it gets the next line of the command's standard input.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import math
import os
import secrets
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import runtimes
from ..config import FilesConfig
from ..errors import ConfigError, Refused
from ..model import MIB
from .client import Client, ConnectionLost, LocalFile
from .main import FAULT, TIMED_OUT
from .reporter import Reporter
from .temporary_session import connect, create, deleted, resources, terminated

PROGRESS_S = 1.0
COMES_BACK_S, RETRY_S = 60.0, 0.25
"""Seconds that a daemon may take to return after a restart, and seconds between two tries."""

STDIN_MAX = 1 * MIB
FILES = FilesConfig()
"""Bounds of one upload and one download, as a daemon has them by default."""

VERSION_CONTROL = {".git", ".hg", ".svn"}


def main(args: argparse.Namespace) -> int:
    """Run the folder; the exit status of its program."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, terminated)
    say = Reporter(args.quiet, args.json)
    files = collect(args.folder, args.exclude, say)
    image = args.image or _detect(files)
    _writable(args.into if args.get else ".")
    options, config = _options(args), resources(args)
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(contextlib.closing(connect(args.socket, stack, say)))
        session = create(client, image, config)
        with deleted(client, session):
            _upload(client, session, files, say)
            code = ConsolePrinter(client, session, options, say).follow()
            fetched = _fetch(client, session, args.get, args.into, say)
    code = code if fetched else code or FAULT
    say.end(code)
    return code


class ConsolePrinter:
    """The console of one run, printed until its end. The run goes on while the daemon restarts, and
    each call has the position that was printed last."""

    def __init__(
        self, client: Client, session: str, options: dict[str, Any], say: Reporter
    ) -> None:
        self._client = client
        self._session = session
        self._say = say
        self._began = time.monotonic()
        self._built = True
        self._options = options
        self._interrupts = 0
        self._interrupt_sent = self._reading = False
        self._unanswered: tuple[dict[str, int] | None, dict[str, Any]] = (None, {})

    def follow(self) -> int:
        """Start the run and print it until its end; the exit status for the shell."""
        run_id = secrets.token_hex(8)  # chosen here, so that a repeated call starts no second run
        call = {"mode": "batch", "code": "", "runId": run_id, "options": self._options}
        self._options["live"] = True
        signal.signal(signal.SIGINT, self._on_interrupt)
        while True:
            result = self._call(call)
            for kind, data in result["console"]:
                self._say.console(kind, data)
            code = self._step(result)
            if code is not None:
                return code
            options = {"live": True, "offset": result["offset"]}
            call = {"mode": "continue", "code": "", "runId": run_id, "options": options}
            if self._interrupts and not self._interrupt_sent:
                self._interrupt_sent = True
                self._client.call("POST", f"/session/{self._session}/interrupt")
            elif result["status"] == "waiting-input":
                self._reading = True
                call |= self._input(result["offset"])
                self._reading = False

    def _call(self, call: dict[str, Any]) -> dict[str, Any]:
        """The result of a call, which is repeated after a restart of the daemon."""
        path, until = f"/session/{self._session}", 0.0
        while True:
            try:
                result: dict[str, Any] = self._client.call("POST", path, call)["result"]
                return result
            except ConnectionLost as error:
                now = time.monotonic()
                if not self._client.comes_back or (until and now > until):
                    raise
                if not until:
                    until = now + COMES_BACK_S
                    self._say.warning(f"{error}; the run goes on, trying for {COMES_BACK_S:.0f} s")
                if call["mode"] == "input":  # the next result shows whether it arrived
                    self._unanswered = call["options"]["offset"], call
                    call = call | {"mode": "continue", "code": ""}
            time.sleep(RETRY_S)

    def _input(self, offset: dict[str, int]) -> dict[str, Any]:
        """The next line of standard input as an input call; the previous one if that was lost."""
        (before, call), self._unanswered = self._unanswered, (None, {})
        if before == offset:
            return {"mode": "input", "code": call["code"], "options": call["options"]}
        line = _input()
        return line | {"options": line["options"] | {"offset": offset}}

    def _on_interrupt(self, *_: object) -> None:
        """Ctrl-C. The first one lets the current call end, since its output comes only once. A
        second one, or one during a read from the user, ends the command."""
        self._interrupts += 1
        if self._interrupts > 1 or self._reading:
            raise KeyboardInterrupt
        self._say.phase("interrupting; once more to give up")

    def _step(self, result: dict[str, Any]) -> int | None:
        """Report the end of a step; the exit status when it was the run's last."""
        status, code = result["status"], result["exitCode"]
        verdict = result.get("verdict") or {}
        skipped = verdict.get("outcome") == "skipped"
        if status in ("clean-finished", "build-finished") and not skipped:
            self._done(status.removesuffix("-finished"), code, verdict)
        if status == "build-finished":
            self._built = code == 0
        if status == "exec-timeout":
            self._done("run", None, verdict)
            return TIMED_OUT
        if status != "finished":
            return None
        if not self._built:
            self._say.phase("the build failed, so exec was not run")
        elif not skipped:
            self._done("exec", code, verdict)
        return FAULT if code is None or code < 0 else int(code)

    def _done(self, step: str, code: int | None, verdict: dict[str, Any]) -> None:
        wall = verdict.get("usage", {}).get("wall_ms", 0) / 1000
        ended = "stopped" if code is None else f"finished (exit code {code})"
        self._say.phase(f"{step} {ended} in {wall:.2f} s", step=step, verdict=verdict)


def collect(folder: str, exclude: list[str], say: Reporter) -> list[LocalFile]:
    """The files of `folder` by name, without those of version control and the excluded ones.

    Raises ConfigError for a file that is too large for an upload.
    """
    if not os.path.isdir(folder):
        raise ConfigError(f"{folder} is not a folder; name one to upload")
    files = []
    for path in _walk(folder):
        name = os.path.relpath(path, folder)
        if any(fnmatch.fnmatch(name, glob) for glob in exclude):
            continue
        real = os.path.realpath(path)
        if not real.startswith(f"{os.path.realpath(folder)}/") or not os.path.isfile(real):
            # Links are followed within the folder only: an untrusted author may have written them.
            say.warning(f"{path} is no file, or a link that leaves the folder; left out")
            continue
        size = os.stat(real).st_size
        if size > FILES.upload_size:
            raise ConfigError(
                f"{path} has {size / MIB:.1f} MiB; an upload takes {FILES.upload_size // MIB} MiB "
                f"a file at most; leave it out with --exclude '{name}'"
            )
        files.append(LocalFile(real, name, size))
    return files


def _walk(folder: str) -> Iterator[str]:
    for top, directories, names in os.walk(folder):
        directories[:] = sorted(d for d in directories if d not in VERSION_CONTROL)
        links = [d for d in directories if os.path.islink(os.path.join(top, d))]
        yield from (os.path.join(top, name) for name in sorted([*names, *links]))


def _detect(files: list[LocalFile]) -> str:
    image = runtimes.detect(file.name for file in files)
    if image is None:
        raise ConfigError("no runtime fits the files of the folder; name one with --image")
    return image


def _writable(into: str) -> None:
    parent = into if os.path.isdir(into) else os.path.dirname(os.path.abspath(into))
    if not os.access(parent, os.W_OK | os.X_OK):
        raise ConfigError(f"--into {into}: {parent} is not a folder that can be written to")


def _fetch(client: Client, session: str, paths: list[str], into: str, say: Reporter) -> bool:
    """Download the results; False, after a warning, when one of them is missing."""
    fetched = True
    for start in range(0, len(paths), FILES.download_files):
        try:
            for name in client.download(session, paths[start : start + FILES.download_files], into):
                say.phase(f"got {os.path.join(into, name)}", got=name)
        except Refused as error:
            say.warning(f"--get: {error}")
            fetched = False
    return fetched


def _upload(client: Client, session: str, files: list[LocalFile], say: Reporter) -> None:
    total = sum(file.size for file in files)
    reported = time.monotonic()
    for start in range(0, len(files), FILES.upload_files):
        client.upload(session, files[start : start + FILES.upload_files])
        if time.monotonic() - reported > PROGRESS_S:
            reported = time.monotonic()
            done = min(start + FILES.upload_files, len(files))
            say.phase(f"uploaded {done} of {len(files)} files", uploaded=done)
    say.phase(f"uploaded {len(files)} files, {total:,} bytes", uploaded=len(files))


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """The batch execution query object."""
    steps = {"clean": args.clean, "build": args.build, "exec": args.exec}
    if args.build is None and args.exec is None:
        steps |= {"build": "*", "exec": "*"}
    options: dict[str, Any] = dict(steps)
    if args.timeout is not None:
        if not 0 < args.timeout < math.inf:
            raise ConfigError(f"--timeout {args.timeout:g}: a number of seconds above 0 is needed")
        options["timeout"] = args.timeout
    if args.stdin is not None:
        try:
            data = sys.stdin.buffer.read() if args.stdin == "-" else Path(args.stdin).read_bytes()
        except OSError as error:
            raise ConfigError(f"--stdin {args.stdin}: {error.strerror}") from None
        if len(data) > STDIN_MAX:
            raise ConfigError(f"--stdin {args.stdin}: {STDIN_MAX} bytes at most; upload it instead")
        options["stdin"] = data.decode("utf-8", "surrogateescape")
    return options


def _input() -> dict[str, Any]:
    """The next line of standard input, or its end, as an input call."""
    line = sys.stdin.readline()
    return {"mode": "input", "code": line, "options": {"live": True, "eof": not line}}
