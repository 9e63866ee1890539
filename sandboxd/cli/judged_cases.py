"""`sandboxd run --cases`: one build, and then exec once for each case, with a verdict for each.

The folder, the build and all cases are one request (POST /run), so nothing is left behind however
it ends. The cases are a JSON file in the form of the API, or a directory with a file NAME.in for
the standard input of each case and, if its output is to be compared, NAME.out or NAME.ans.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tempfile
from typing import Any

from ..errors import ConfigError, Draining, Full, QuotaExceeded, Refused, Unavailable
from .connection.client import Client
from .connection.turn import TurnWait
from .main import FAULT, TIMED_OUT
from .reporter import Reporter, printable
from .transfer.local_tree import LocalTree, TreeEntry
from .transfer.tar_stream import tar_stream

FAILED = 1
"""Exit status when a case has failed."""

EXPECTED = (".out", ".ans")
FIELDS = ("name", "stdin", "limits", "expected")
IN_MEMORY = 16 << 20


def check(args: argparse.Namespace, config: dict[str, Any]) -> None:
    """Raise ConfigError for options that have no meaning with cases."""
    options = {
        "--get": args.get, "--stdin": args.stdin, "--keep": args.keep, "--name": args.name,
        "--interactive": args.interactive, "--folder": config.get("mounts"),
        "--workspace": args.workspace,
    }  # fmt: skip
    if names := [name for name, value in options.items() if value]:
        raise ConfigError(f"{', '.join(names)}: not together with --cases; leave it out")


def read_cases(path: str) -> list[dict[str, Any]]:
    """The cases of a file or a directory. Raises ConfigError."""
    try:
        cases = _of_directory(path) if os.path.isdir(path) else _of_file(path)
    except OSError as error:
        raise ConfigError(f"--cases {path}: {error.strerror}") from None
    if not cases:
        raise ConfigError(f"--cases {path}: no case; a directory has a file NAME.in for each")
    return cases


def _of_file(path: str) -> list[dict[str, Any]]:
    with open(path, encoding="utf-8") as file:
        try:
            cases = json.load(file)
        except ValueError as error:
            raise ConfigError(f"--cases {path}: no JSON: {error}") from None
    if not isinstance(cases, list) or not all(isinstance(case, dict) for case in cases):
        raise ConfigError(f"--cases {path}: a list of objects with {', '.join(FIELDS)} is needed")
    return cases


def _of_directory(path: str) -> list[dict[str, Any]]:
    names = sorted(filter(lambda name: name.endswith(".in"), os.listdir(path)), key=_natural)
    return [_case(path, name.removesuffix(".in")) for name in names]


def _natural(name: str) -> list[Any]:
    """A key that sorts 2 before 10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _case(path: str, name: str) -> dict[str, Any]:
    case = {"name": name, "stdin": _text(os.path.join(path, f"{name}.in"))}
    for ending in EXPECTED:
        expected = os.path.join(path, name + ending)
        if os.path.exists(expected):
            case["expected"] = _text(expected)
            break
    return case


def _text(path: str) -> str:
    with open(path, "rb") as file:
        try:
            return file.read().decode()
        except UnicodeDecodeError:
            raise ConfigError(f"--cases {path}: the input of a case is text in UTF-8") from None


def run_cases(
    client: Client,
    args: argparse.Namespace,
    body: dict[str, Any],
    tree: LocalTree,
    entries: list[TreeEntry],
    say: Reporter,
) -> int:
    """Carry out the request `body` with the files of `tree`; the exit status of the command."""
    turn = None if args.wait is None else TurnWait(say, args.wait)
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as archive:
        for chunk in tar_stream(tree, entries, say, lambda _: None):
            archive.write(chunk)
        while True:
            archive.seek(0)
            files = {"run": (None, json.dumps(body)), "archive": ("a.tar", archive)}
            try:
                answer = client.call("POST", "/run", files=files, timeout=None)
                break
            except (Draining, Full, QuotaExceeded) as error:
                if turn is None:
                    raise Unavailable(f"{error}; --wait waits for a turn") from None
                turn.waits(str(error))
                turn.pause()
            except Refused as error:
                raise ConfigError(str(error)) from None
    return _report(answer, say, as_json=args.json)


def request(
    image: str, options: dict[str, Any], config: dict[str, Any], cases: list[dict[str, Any]],
    stop: bool,
) -> dict[str, Any]:  # fmt: skip
    """The body of the request: the options of a run, with the settings of a session as limits and
    variables of its steps."""
    limits = config["resources"] | config["resource_opts"]
    environ = config["environ"] | options.get("environ", {})
    steps = {"limits": {"exec": limits, "build": limits}} if limits else {}
    return {
        "image": image,
        "options": options | steps | {"environ": environ},
        "cases": cases,
        "stop_on_failure": stop,
    }


def _report(answer: dict[str, Any], say: Reporter, as_json: bool) -> int:
    """Print the outcome; the exit status."""
    build, cases = answer.get("result"), answer.get("cases", [])
    if build:
        if as_json:
            print(json.dumps({"event": "build"} | build), flush=True)
        with say.program():
            for kind, data in build["console"] if not as_json else ():
                _print_text(say, kind, data)
        codes = [step["exitCode"] for step in build["steps"] if step["step"] == "build"]
        if not cases and (codes := [code for code in (*codes, build["exitCode"]) if code != 0]):
            code = codes[0]
            say.phase("the build failed, so no case was run", always=True)
            return TIMED_OUT if code is None else FAULT if code < 0 else int(code)
    with say.program():  # the names are those of the checkout
        for case in cases:
            print(json.dumps({"event": "case"} | case) if as_json else _line(case), flush=True)
    return FAILED if any(map(_failed, cases)) else 0


def _print_text(say: Reporter, kind: str, data: Any) -> None:
    if kind == "log":
        say.warning(str(data[3]))
    else:
        say.text(kind, data)


def _failed(case: dict[str, Any]) -> bool:
    return case["exitCode"] != 0 or case.get("passed") is False


def _line(case: dict[str, Any]) -> str:
    """One case, for people."""
    verdict = case.get("verdict") or {}
    usage = verdict.get("usage", {})
    seconds, peak = usage.get("wall_ms", 0) / 1000, usage.get("mem_peak", 0) / (1 << 20)
    return f"{printable(case['name'])}: {_outcome(case, verdict)}, {seconds:.2f} s, {peak:.1f} MiB"


def _outcome(case: dict[str, Any], verdict: dict[str, Any]) -> str:
    if verdict.get("outcome") == "limit":
        return f"limit {verdict['limit']}"
    if verdict.get("outcome") == "signal":
        return f"signal {verdict['signal']}"
    if case["exitCode"] != 0:
        return f"exit code {case['exitCode']}"
    return {True: "passed", False: "wrong output", None: "exit code 0"}[case.get("passed")]
