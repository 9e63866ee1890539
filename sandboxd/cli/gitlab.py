"""`sandboxd gitlab`: the driver of GitLab Runner's custom executor, one call for each stage.

    config   prints the directories of the job, as JSON
    prepare  makes the session of the job
    run      runs one of the scripts of the runner in it, in the order of its stages
    cleanup  deletes the session; also after a failure, and again without harm

The session is found by its name, which follows from the job (step/gitlab_job.py). Each call holds
the session, and between two calls it has a time to live: when the runner has died, the session
ends. The caches of a project are in a virtual folder of its own, if `prepare` has a size for it.
The exit status says whether the job or the machine has failed, as the runner wants to know it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
from collections.abc import Callable
from typing import Any

from .. import __version__
from ..errors import ConfigError, FolderExists, NotFound, Refused, SandboxdError, Unavailable
from ..model import HOME
from .connection.client import Client
from .connection.daemon_socket import running_daemon
from .connection.holder import hold_named
from .connection.references import session_path
from .connection.temporary_session import UnknownImage, create, end_at_signals, renew, resources
from .connection.turn import TurnWait
from .console.console_printer import ConsolePrinter
from .console.stdin_sender import InputSource
from .parent_watch import end_with_parent
from .reporter import Reporter
from .step.carried_files import SCRIPT, carry_in, new_place, remove
from .step.gitlab_job import cache_name, image_of, job_of, session_name, timeout_of

GAP_S = 300.0
"""The time to live between two calls. The runner itself works between them, on artifacts say."""


class _JobError(SandboxdError):
    """A mistake of the job itself."""


def main(args: argparse.Namespace) -> int:
    """Carry out one stage; the exit status for the runner."""
    end_at_signals()
    say = Reporter(quiet=False, as_json=False)
    try:
        return _STAGES[args.action](args, say)
    except _JobError as error:
        say.warning(str(error))
        return _status("BUILD_FAILURE_EXIT_CODE", 1)
    except SandboxdError as error:  # also a mistake in the options, which are the runner's
        say.warning(str(error))
        return _status("SYSTEM_FAILURE_EXIT_CODE", 2)


def _status(variable: str, default: int) -> int:
    text = os.environ.get(variable, "")
    return int(text) if text.isdigit() else default


# -- the stages


def _config(_args: argparse.Namespace, _say: Reporter) -> int:
    settings = {
        "builds_dir": f"{HOME}/builds",
        "cache_dir": f"{HOME}/{cache_name(job_of(os.environ))}",
        "builds_dir_is_shared": False,
        "driver": {"name": "sandboxd", "version": __version__},
        "shell": "bash",
    }
    print(json.dumps(settings))
    return 0


def _prepare(args: argparse.Namespace, say: Reporter) -> int:
    job, config = job_of(os.environ), resources(args)
    name, image = session_name(job), image_of(job, args.image)
    turn = TurnWait(say, args.wait)
    with contextlib.closing(running_daemon(args.socket)) as client:
        _delete(client, name)  # of an attempt before this one
        if args.cache:
            _add_cache(client, config, cache_name(job), args.cache)
        try:
            session = create(client, image, config, turn, name)
        except UnknownImage as error:
            raise (_JobError if image_of(job, "") else ConfigError)(str(error)) from None
        renew(client, session, GAP_S)
    say.phase(f"the session {name} with the runtime {image} is ready")
    return 0


def _add_cache(client: Client, config: dict[str, Any], name: str, size: str) -> None:
    """Let the session of `config` have the folder `name`, which is made if it is not there."""
    with contextlib.suppress(FolderExists):
        try:
            client.call("POST", "/folders", {"name": name, "quota": size})
        except Refused as error:
            if isinstance(error.data, dict) and "quota" in error.data:
                raise ConfigError(f"--cache: {error.data['quota']}") from None
            raise
    config["mounts"] = [*config.get("mounts", []), name]


def _run(args: argparse.Namespace, say: Reporter) -> int:
    job = job_of(os.environ)
    try:
        with open(args.script, "rb") as file:
            script = file.read()
    except OSError as error:
        raise Unavailable(f"{args.script}: {error.strerror}") from None
    end_with_parent()
    with contextlib.closing(running_daemon(args.socket)) as client:
        session = hold_named(client, session_name(job))
        place = new_place()
        carry_in(client, session, place, {SCRIPT: script})
        options = {
            "exec": shlex.join(["exec", "bash", f"{place}/{SCRIPT}"]),
            "timeout": timeout_of(job),
        }
        quiet = Reporter(quiet=True, as_json=False)
        printer = ConsolePrinter(client, session, options, quiet, TurnWait(say, None))
        code = printer.follow(InputSource(None), exec_only=False)
        with contextlib.suppress(SandboxdError):  # the job has its result already
            remove(client, session, place)
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
