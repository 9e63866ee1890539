"""`sandboxd gitlab`: the driver of GitLab Runner's custom executor, one call for each stage.

    config   prints the directories of the job, as JSON
    prepare  makes the session of the job
    run      runs one of the scripts of the runner in it, in the order of its stages
    cleanup  deletes the session; also after a failure, and again without harm

The session is found by its name, which follows from the job that JOB_RESPONSE_FILE describes: a job
can set the variables of its environment as it likes, but not that file. Each call holds the
session, and between two calls it has a time to live: when the runner has died, the session ends.
The exit status says whether the job or the machine has failed, as the runner wants to know it.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import secrets
import shlex
import signal
from collections.abc import Callable, Mapping
from typing import Any

from .. import __version__
from ..errors import ConfigError, NotFound, SandboxdError, Unavailable
from ..model import HOME
from .carried_files import carry_in, carry_out
from .client import Client
from .console_printer import ConsolePrinter
from .daemon_socket import running_daemon
from .holder import hold
from .parent_watch import end_with_parent
from .references import session_facts, session_path
from .reporter import Reporter
from .stdin_sender import InputSource
from .temporary_session import create, renew, resources, terminated
from .turn import Turn

GAP_S = 300.0
"""The time to live between two calls. The runner itself works between them, on artifacts say."""

JOB_S = 3600.0
"""The time limit of a script whose job names none."""

SCRIPT = "script"


def main(args: argparse.Namespace) -> int:
    """Carry out one stage; the exit status for the runner."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, terminated)
    say = Reporter(quiet=False, as_json=False)
    try:
        return _STAGES[args.action](args, say)
    except ConfigError as error:  # an unknown image, say
        say.warning(str(error))
        return _status("BUILD_FAILURE_EXIT_CODE", 1)
    except SandboxdError as error:
        say.warning(str(error))
        return _status("SYSTEM_FAILURE_EXIT_CODE", 2)


def _status(variable: str, default: int) -> int:
    text = os.environ.get(variable, "")
    return int(text) if text.isdigit() else default


# -- the job


def job_of(environ: Mapping[str, str]) -> dict[str, Any]:
    """The job, as the runner has got it. Raises ConfigError."""
    path = environ.get("JOB_RESPONSE_FILE")
    if not path:
        raise ConfigError(
            "JOB_RESPONSE_FILE is not set: GitLab Runner calls this command, and sets it"
        )
    try:
        with open(path, encoding="utf-8") as file:
            job: dict[str, Any] = json.load(file)
        return job | {"id": int(job["id"]), "token": str(job["token"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"JOB_RESPONSE_FILE {path} is no job: {error}") from None


def session_name(job: Mapping[str, Any]) -> str:
    """The name of the job's session. Ids of several coordinators may be the same, tokens are not,
    and a token is no part of a name."""
    digest = hashlib.sha256(str(job["token"]).encode()).hexdigest()
    return f"gitlab-{job['id']}-{digest[:12]}"


def image_of(job: Mapping[str, Any], default: str) -> str:
    """The runtime that the job names with `image:`."""
    image = job.get("image")
    name = image.get("name") if isinstance(image, dict) else None
    return str(name) if name else default


def timeout_of(job: Mapping[str, Any]) -> float:
    """The seconds that the job may take."""
    info = job.get("runner_info")
    seconds = info.get("timeout") if isinstance(info, dict) else None
    return float(seconds) if isinstance(seconds, int | float) and seconds > 0 else JOB_S


# -- the stages


def _config(_args: argparse.Namespace, _say: Reporter) -> int:
    settings = {
        "builds_dir": f"{HOME}/builds",
        "cache_dir": f"{HOME}/cache",
        "builds_dir_is_shared": False,
        "driver": {"name": "sandboxd", "version": __version__},
        "shell": "bash",
    }
    print(json.dumps(settings))
    return 0


def _prepare(args: argparse.Namespace, say: Reporter) -> int:
    job, config = job_of(os.environ), resources(args)
    name, image = session_name(job), image_of(job, args.image)
    turn = Turn(say, args.wait)
    with contextlib.closing(running_daemon(args.socket)) as client:
        _delete(client, name)  # of an attempt before this one
        session = create(client, image, config, turn, name)
        renew(client, session, GAP_S)
    say.phase(f"the session {name} with the runtime {image} is ready")
    return 0


def _run(args: argparse.Namespace, say: Reporter) -> int:
    job = job_of(os.environ)
    try:
        with open(args.script, "rb") as file:
            script = file.read()
    except OSError as error:
        raise Unavailable(f"{args.script}: {error.strerror}") from None
    end_with_parent()
    with contextlib.closing(running_daemon(args.socket)) as client:
        session = str(session_facts(client, session_name(job))["sessionId"])
        hold(client, session)
        place = f"/tmp/.sandboxd-{secrets.token_hex(8)}"
        carry_in(client, session, place, {SCRIPT: script})
        options = {
            "exec": shlex.join(["exec", "bash", f"{place}/{SCRIPT}"]),
            "timeout": timeout_of(job),
        }
        quiet = Reporter(quiet=True, as_json=False)
        printer = ConsolePrinter(client, session, options, quiet, Turn(say, None))
        code = printer.follow(InputSource(None), exec_only=False)
        with contextlib.suppress(SandboxdError):  # the job has its result already
            carry_out(client, session, place, [])
    if printer.fault:
        raise Unavailable(f"the stage {args.stage} was not carried out")
    return _passed_on(code)


def _passed_on(code: int) -> int:
    """The exit status for the runner of a script that has ended with `code`."""
    if code == 0:
        return 0
    if path := os.environ.get("BUILD_EXIT_CODE_FILE"):
        with contextlib.suppress(OSError), open(path, "w", encoding="ascii") as file:
            file.write(str(code))
    return _status("BUILD_FAILURE_EXIT_CODE", 1)


def _cleanup(args: argparse.Namespace, _say: Reporter) -> int:
    with contextlib.closing(running_daemon(args.socket)) as client:
        _delete(client, session_name(job_of(os.environ)))
    return 0


def _delete(client: Client, name: str) -> None:
    with contextlib.suppress(NotFound):
        client.call("DELETE", session_path(name))


_STAGES: dict[str, Callable[[argparse.Namespace, Reporter], int]] = {
    "config": _config,
    "prepare": _prepare,
    "run": _run,
    "cleanup": _cleanup,
}
