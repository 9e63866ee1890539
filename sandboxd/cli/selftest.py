"""The command `sandboxd selftest`: attacks this installation and shows which protections held."""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import json
import os
import sys
import time
from dataclasses import dataclass

from .. import protections
from ..errors import ConfigError
from ..selftest import host_view, runner
from ..selftest.attack import Attack, Judgement
from .connection.temporary_session import connect, create, deleted, end_at_signals
from .reporter import Reporter

NOT_HELD = 1
"""Exit status when an attack succeeded, or did not come to its end."""

_GREEN, _YELLOW, _RED, _PLAIN = "\033[32m", "\033[33m", "\033[31m", "\033[0m"
_WORDS = {True: ("held", _GREEN), False: ("BROKEN", _RED), None: ("unclear", _YELLOW)}


@dataclass(frozen=True, slots=True)
class Line:
    """The outcome of one attack."""

    attack: Attack
    judgement: Judgement
    seconds: float


def main(args: argparse.Namespace) -> int:
    """Carry out the attacks; 0 when all of them failed."""
    end_at_signals()
    if args.workspace and os.geteuid() == 0:
        raise ConfigError("root has no workspaces: run this as the user whose directory it is")
    attacks = _select(args.only, args.kind, bool(args.workspace))
    workspace = os.path.realpath(args.workspace) if args.workspace else ""
    if args.list:
        _list(attacks)
        return 0
    # A private daemon inherits this variable, and no program may see it.
    os.environ["SANDBOXD_SELFTEST_SECRET"] = "of the daemon's environment"
    say = Reporter(quiet=args.json, as_json=False)
    began, lines = time.monotonic(), []
    with contextlib.ExitStack() as stack:
        canaries = host_view.Canaries(stack)
        connection = connect(args.socket, stack, say, args.image)
        client = stack.enter_context(contextlib.closing(connection))
        with deleted(client, create(client, args.image, {})):
            pass  # an unknown image is a mistake of the caller, and must not fail each attack
        work = runner.AttackRunner(client, canaries, args.image, runner.is_root(), workspace)
        width = max(len(attack.name) for attack in attacks)
        for count, attack in enumerate(attacks, 1):
            _progress(f"{count}/{len(attacks)} {attack.name}", args.json)
            start = time.monotonic()
            line = Line(attack, work.attack(attack), time.monotonic() - start)
            _progress("", args.json)
            lines.append(line)
            if not args.json:
                _show(line, width)
    _end(lines, time.monotonic() - began, args.json)
    return 0 if all(line.judgement.held for line in lines) else NOT_HELD


def _select(only: list[str], kinds: list[str], with_workspace: bool) -> list[Attack]:
    """The attacks with these names and kinds. Raises ConfigError for a name that does not exist."""
    attacks = (*runner.ATTACKS, *(runner.WORKSPACE_ATTACKS if with_workspace else ()))
    for kind in kinds:
        if kind not in protections.KINDS:
            raise ConfigError(f"--kind {kind}: choose one of {', '.join(protections.KINDS)}")
    for name in only:
        if not any(fnmatch.fnmatchcase(attack.name, name) for attack in attacks):
            raise ConfigError(
                f"--only {name}: no attack has this name; see 'sandboxd selftest --list'"
            )
    return [
        attack
        for attack in attacks
        if (not kinds or attack.kind in kinds)
        and (not only or any(fnmatch.fnmatchcase(attack.name, name) for name in only))
    ]


def _list(attacks: list[Attack]) -> None:
    width = max(len(attack.name) for attack in attacks)
    for attack in attacks:
        print(f"{attack.kind:<10}  {attack.name:<{width}}  {attack.aim}")


def _progress(text: str, quiet: bool) -> None:
    """Show the attack under way, on a terminal, in a line that the next one replaces."""
    if sys.stderr.isatty() and not quiet:
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def _show(line: Line, width: int) -> None:
    word, colour = _WORDS[line.judgement.held]
    text = f"{word:<7}"
    if sys.stdout.isatty():
        text = f"{colour}{text}{_PLAIN}"
    attack, why = line.attack, line.judgement.why
    print(f"{text}  {attack.kind:<10}  {attack.name:<{width}}  {attack.aim}", end="")
    print(f": {why}; {_protected_by(attack)}" if why else "", flush=True)


def _protected_by(attack: Attack) -> str:
    names = ", ".join(protection.name for protection in protections.of_attack(attack.name))
    return f"protection: {names} (docs/security.md)"


def _end(lines: list[Line], seconds: float, as_json: bool) -> None:
    count = {
        name: sum(line.judgement.held is value for line in lines)
        for name, value in (("held", True), ("broken", False), ("unclear", None))
    }
    if as_json:
        attacks = [
            {
                "name": line.attack.name,
                "kind": line.attack.kind,
                "aim": line.attack.aim,
                "held": line.judgement.held,
                "why": line.judgement.why,
                "protections": [one.name for one in protections.of_attack(line.attack.name)],
                "seconds": round(line.seconds, 3),
            }
            for line in lines
        ]
        print(
            json.dumps(count | {"host_looked_at": runner.is_root(), "attacks": attacks}, indent=2)
        )
        return
    looked = "" if runner.is_root() else "; the host was not looked at: that needs root"
    print(
        f"\n{len(lines)} attacks: {count['held']} held, {count['broken']} broken, "
        f"{count['unclear']} unclear; {seconds:.0f} s{looked}"
    )
