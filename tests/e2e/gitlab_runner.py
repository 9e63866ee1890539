"""The calls of GitLab Runner's custom executor, and scripts of the form that the runner writes.

No real runner can be installed from the registries of packages that the tests use. Its source
(version 19.4) and its documentation say how it calls a driver.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..http_clients import GUARD_S
from .daemon import Daemon, environ

BUILD_FAILURE, SYSTEM_FAILURE = 31, 32

TERM = "trap 'exit 1' TERM"


def script(lines: Iterable[str], is_legacy: bool = False) -> str:
    """A script of the runner: the lines are one word for eval, in a subshell without input, or in a
    pipe with FF_USE_LEGACY_BASH_EVAL."""
    word = escaped("".join(f"{line}\n" for line in lines))
    call = f": | eval {word}" if is_legacy else f"({TERM}; eval {word}) < /dev/null"
    options = 'case "$(set -o)" in *"pipefail"*) set -o pipefail;; esac; set -o errexit'
    return f"#!/usr/bin/env bash\n\n{TERM}\n\n{options}\nset +o noclobber\n{call}\nexit 0\n"


def escaped(text: str) -> str:
    """A word of bash with the form $'...'."""
    names = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    plain = (
        names.get(chr(byte)) or (chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}")
        for byte in text.encode()
    )
    return f"$'{''.join(plain)}'"


class Runner:
    """The calls of one job."""

    def __init__(self, daemon: Daemon, folder: Path, **job: Any) -> None:
        self.daemon, self.folder = daemon, folder
        self.code = folder / "exit_code"
        (folder / "job.json").write_text(json.dumps({"id": 5, "token": "t"} | job))
        self.environ = environ() | {
            "JOB_RESPONSE_FILE": f"{folder}/job.json",
            "BUILD_EXIT_CODE_FILE": str(self.code),
            "BUILD_FAILURE_EXIT_CODE": str(BUILD_FAILURE),
            "SYSTEM_FAILURE_EXIT_CODE": str(SYSTEM_FAILURE),
            "CUSTOM_ENV_SECRET": "of-a-variable",
        }

    def begin(self, stage: str, *args: str) -> subprocess.Popen[str]:
        """Start a call."""
        socket = ("--socket", f"{self.daemon.folder}/api.sock")
        command = [sys.executable, "-P", "-m", "sandboxd", "gitlab", stage, *socket, *args]
        return subprocess.Popen(
            command, env=self.environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def call(self, stage: str, *args: str) -> tuple[int, str, str]:
        """A call to its end: the exit status, stdout and stderr."""
        process = self.begin(stage, *args)
        output, errors = process.communicate(timeout=GUARD_S)
        return process.returncode, output, errors

    def settings(self) -> dict[str, Any]:
        """The settings of the job, as the stage config prints them."""
        status, output, errors = self.call("config")
        assert status == 0, errors
        settings: dict[str, Any] = json.loads(output)
        return settings

    def script(self, text: str) -> str:
        """A script that the runner has written."""
        (self.folder / "script").write_text(text)
        return f"{self.folder}/script"

    def run(self, text: str, stage: str = "build_script") -> tuple[int, str, str]:
        """One script."""
        return self.call("run", self.script(text), stage)
