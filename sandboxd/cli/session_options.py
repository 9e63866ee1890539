"""The options of the commands for sessions and for virtual folders."""

from __future__ import annotations

import argparse

from .options import (
    LIMIT,
    NETWORK,
    Command,
    environment,
    seconds,
    session_settings,
    socket,
    socket_or_private,
    wait,
    with_parent,
)


def _run(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Uploads FOLDER into a new session, runs its steps and shows the console live. Exits with "
        "the program's exit code; 124: a time limit, 125: sandboxd's own failure, 2: a mistake in "
        "the command line. Uses the daemon that runs, or starts a private one for this run."
    )
    add = command.add_argument
    add(
        "folder", metavar="FOLDER", nargs="?",
        help="the folder to upload, without .git, .hg and .svn",
    )  # fmt: skip
    add(
        "--workspace", metavar="DIR",
        help="upload nothing: the program works in this directory of yours itself, which is below "
        "one of the [workspaces] paths of the daemon",
    )  # fmt: skip
    add("--image", metavar="NAME", help="runtime; default: detected from the files in FOLDER")
    add("--clean", metavar="CMD", help="shell command before the build")
    add("--build", metavar="CMD", help="shell command; '*' for the runtime's default")
    add("--exec", metavar="CMD", help="shell command; '*' for the runtime's default")
    add(
        "--get", metavar="PATH", nargs="+", default=[],
        help="fetch these results at the end; *, ** and ? are wildcards, to be quoted",
    )  # fmt: skip
    add("--into", metavar="DIR", default=".", help="where --get puts them (default: here)")
    _left_out(command)
    session_settings(command)
    add("--timeout", metavar="SECONDS", type=seconds, help="time limit of exec")
    add("--build-timeout", metavar="SECONDS", type=seconds, help="time limit of build")
    wait(command)
    with_parent(command)
    add(
        "--cases", metavar="FILE",
        help="run exec once for each case: a JSON file, or a directory with NAME.in and NAME.out",
    )  # fmt: skip
    add("--stop-on-failure", action="store_true", help="end at the first case that fails")
    add("--keep", action="store_true", help="let the session stay, for 'sandboxd exec'")
    add("--name", metavar="NAME", default="", help="the name of the session")
    add(
        "--stdin",
        metavar="FILE",
        help="exec's standard input, any bytes; default: this command's own, for all steps",
    )
    add(
        "--interactive", "-i", action=argparse.BooleanOptionalAction,
        help="exec has a terminal for its input and output, which makes prompts of all languages "
        "appear at once; default: if standard input and output of this command are a terminal",
    )  # fmt: skip
    add(
        "--quiet", "-q", action="store_true",
        help="print only the program's output, and the reason if a limit or a build ended it",
    )  # fmt: skip
    add("--json", action="store_true", help="events as JSON, one a line, on standard output")
    socket_or_private(command)


def _left_out(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add(
        "--exclude", metavar="GLOB", action="append", default=[],
        help="leave out these names at any depth, or with a / this path in FOLDER",
    )  # fmt: skip
    add(
        "--exclude-from", metavar="FILE", action="append", default=[],
        help="leave out what FILE names by the rules of .gitignore",
    )  # fmt: skip
    add("--include-vcs", action="store_true", help="upload .git, .hg and .svn too")


def _get(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Fetches files of SESSION. 'sandboxd run' prints the command when it could not fetch the "
        "results itself; they stay for a day. Exits with 1 if a name matched nothing, and with 125 "
        "if results could not be fetched."
    )
    add = command.add_argument
    add("session", metavar="SESSION", help="its name or UUID")
    add(
        "names", metavar="PATH", nargs="+",
        help="below /home/work; *, ** and ? are wildcards, to be quoted",
    )  # fmt: skip
    add("--into", metavar="DIR", default=".", help="where to put them (default: here)")
    add("--rm", action="store_true", help="delete the session when everything is fetched")
    add("--state", metavar="DIR", help="of a private daemon that is over; 'run' prints it")
    add("--quiet", "-q", action="store_true", help="print only warnings")
    add("--json", action="store_true", help="events as JSON, one a line, on standard output")
    socket(command)


def _shell(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Connects this terminal to a shell in the session NAME. If no session has that name, a "
        "new one with the runtime NAME is created and deleted when the shell ends. Exits with "
        "the shell's exit code, or as 'run' does."
    )
    add = command.add_argument
    add("name", metavar="NAME", help="a session, or a runtime such as c or python")
    add("--env", metavar="NAME=VALUE", action="append", default=[], help="in a new session")
    add("--mem", metavar="SIZE", help="memory limit of a new session, such as 512m or 2g")
    add("--cpus", metavar="N", help="share of CPUs of a new session, such as 0.5 or 2")
    add("--limit", metavar="NAME=VALUE", action="append", default=[], help=LIMIT)
    add("--network", metavar="PROFILE", help=NETWORK)
    add("--quiet", "-q", action="store_true", help="print only the terminal's output")
    socket_or_private(command)


def _exec(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Runs COMMAND in SESSION and shows its output live; its words are not read by a shell. "
        "Exits with the command's exit code, or as 'run' does. The session stays."
    )
    add = command.add_argument
    environment(command)
    add("--timeout", metavar="SECONDS", type=seconds, help="time limit of the command")
    with_parent(command)
    add("--stdin", metavar="FILE", help="standard input; default: this command's own")
    add(
        "--interactive", "-i", action=argparse.BooleanOptionalAction,
        help="a terminal for input and output; default: if this command has one",
    )  # fmt: skip
    add("--quiet", "-q", action="store_true", help="print only the command's output")
    add("--json", action="store_true", help="events as JSON, one a line, on standard output")
    socket(command)
    add("session", metavar="SESSION", help="its name or UUID")
    add("words", metavar="-- COMMAND", nargs=argparse.REMAINDER, help="the command")


def _sh(command: argparse.ArgumentParser) -> None:
    command.description = (
        "A shell for the place where a CI system takes one: runs SCRIPT by bash in the session "
        "that SANDBOXD_SESSION names, or in a new one that ends with it. Carries the files of "
        "GITHUB_ENV, GITHUB_OUTPUT, GITHUB_PATH, GITHUB_STATE and GITHUB_STEP_SUMMARY in and out, "
        "and that of GITHUB_EVENT_PATH in. See docs/ci.md."
    )
    add = command.add_argument
    add("--session", metavar="NAME", help="the session (default: $SANDBOXD_SESSION)")
    add("--image", metavar="NAME", help="runtime of a new session (default: $SANDBOXD_IMAGE)")
    add("--workspace", metavar="DIR",
        help="directory of this host in a new session (default: $SANDBOXD_WORKSPACE)")  # fmt: skip
    session_settings(command)
    add("--timeout", metavar="SECONDS", type=seconds, default=3600.0, help="limit (3600)")
    wait(command)
    for letter, meaning in (("e", "end at the first failure"), ("x", "print each command"),
                            ("u", "an unset variable is an error")):  # fmt: skip
        add(f"-{letter}", action="store_true", help=f"{meaning}, as of bash")
    add("-c", dest="text", metavar="TEXT", help="the script itself")
    socket_or_private(command)
    add("script", metavar="SCRIPT", nargs="?", help="a file of this host")
    add("words", metavar="ARG", nargs=argparse.REMAINDER, help="arguments of the script")


def _ps(command: argparse.ArgumentParser) -> None:
    command.description = "Lists the sessions that are not over, the newest first."
    command.add_argument("--json", action="store_true", help="a list of objects")
    socket(command)


def _ls(command: argparse.ArgumentParser) -> None:
    command.description = "Lists a directory of a session."
    command.add_argument("session", metavar="SESSION", help="its name or UUID")
    command.add_argument("path", metavar="PATH", nargs="?", default=".", help="below /home/work")
    command.add_argument("--json", action="store_true", help="a list of objects")
    socket(command)


def _cp(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Copies a file or a directory into a session or out of it: one of both names is "
        "SESSION:PATH. A directory that exists at the destination gets the copy."
    )
    command.add_argument("source", metavar="SOURCE", help="a file or directory")
    command.add_argument("destination", metavar="DESTINATION", help="a directory, or a new name")
    command.add_argument("--quiet", "-q", action="store_true", help="print only warnings")
    socket(command)


def _logs(command: argparse.ArgumentParser) -> None:
    command.description = "Prints the console of the run of SESSION that was started last."
    command.add_argument("session", metavar="SESSION", help="its name or UUID")
    command.add_argument(
        "--follow", "-f", action="store_true", help="print what comes, until the run ends"
    )
    socket(command)


def _rm(command: argparse.ArgumentParser) -> None:
    command.description = "Ends all that goes on in the sessions, and removes their files."
    command.add_argument("sessions", metavar="SESSION", nargs="+", help="its name or UUID")
    socket(command)


def _folder(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Virtual folders keep files, such as caches, between sessions; 'run --folder NAME' shows "
        "one to a program."
    )
    actions = command.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="create a folder")
    create.add_argument("name", metavar="NAME")
    create.add_argument("--size", metavar="SIZE", default="0", help="its quota, such as 512m or 2g")
    listing = actions.add_parser("ls", help="list the folders, or the files of one")
    listing.add_argument("name", metavar="NAME[:PATH]", nargs="?")
    copy = actions.add_parser("cp", help="copy a file or a directory; one of both is NAME:PATH")
    copy.add_argument("source", metavar="SOURCE")
    copy.add_argument("destination", metavar="DESTINATION")
    copy.add_argument(
        "--include-vcs",
        action="store_true",
        help="copy .git, .hg and .svn too, and repositories of git by other names; programs of "
        "this host act on them",
    )
    remove = actions.add_parser("rm", help="remove folders with their files, or NAME:PATH in one")
    remove.add_argument("names", metavar="NAME[:PATH]", nargs="+")
    info = actions.add_parser("info", help="a folder's size and use")
    info.add_argument("name", metavar="NAME")
    for action in (create, listing, info):
        action.add_argument("--json", action="store_true", help="JSON instead of text")
    for action in (create, listing, copy, remove, info):
        socket(action)


def _gitlab(command: argparse.ArgumentParser) -> None:
    command.description = (
        "The stages of GitLab Runner's custom executor: config_exec, prepare_exec, run_exec and "
        "cleanup_exec of the runner call them. See docs/ci.md."
    )
    actions = command.add_subparsers(dest="action", metavar="ACTION", required=True)
    config = actions.add_parser("config", help="print the directories of the job")
    prepare = actions.add_parser("prepare", help="make the session of the job")
    prepare.add_argument(
        "--image", metavar="NAME", default="shell", help="runtime of a job without image: (shell)"
    )
    prepare.add_argument(
        "--cache", metavar="SIZE",
        help="a virtual folder of this size for the caches of each project, made at first use",
    )  # fmt: skip
    session_settings(prepare)
    wait(prepare)
    run = actions.add_parser("run", help="run a script of the runner in the session")
    run.add_argument("script", metavar="SCRIPT")
    run.add_argument("stage", metavar="STAGE")
    cleanup = actions.add_parser("cleanup", help="delete the session")
    for action in (config, prepare, run, cleanup):
        socket(action)


COMMANDS: tuple[Command, ...] = (
    ("run", "upload a folder, build and run it, show its output", _run),
    ("get", "fetch files of a session, such as results of a run", _get),
    ("shell", "open a terminal in a session", _shell),
    ("exec", "run a command in a session", _exec),
    ("sh", "the shell of a CI system: run a script in a session", _sh),
    ("ps", "list the sessions", _ps),
    ("ls", "list files of a session", _ls),
    ("cp", "copy files into a session or out of it", _cp),
    ("logs", "print the console of a session", _logs),
    ("rm", "delete sessions", _rm),
    ("gitlab", "the driver of GitLab Runner's custom executor", _gitlab),
    ("folder", "create and manage virtual folders", _folder),
)
