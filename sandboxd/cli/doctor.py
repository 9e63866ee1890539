"""The command `sandboxd doctor`: tries what this host can guarantee, and prints a line for each.

It works beside a running daemon and before the first start, and leaves nothing behind.
"""

from __future__ import annotations

import argparse
import contextlib
import glob
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict

from .. import runtimes
from ..config import toml_file
from ..config.settings import Config
from ..errors import ConfigError, StageError
from ..model import Guarantee
from ..warden.doctor import guarantees
from ..warden.doctor.checks import api_uid
from ..warden.runs.cgroups import Hierarchy
from . import hidden_files, listener_rows, network_rows

MISSING = 1
"""Exit status when a required guarantee does not hold."""

_GROUP = "sandboxd-doctor-"
_GREEN, _YELLOW, _RED, _PLAIN = "\033[32m", "\033[33m", "\033[31m", "\033[0m"


def main(args: argparse.Namespace) -> int:
    """Print a line for each guarantee; 0 when all that is required holds."""
    if os.geteuid() != 0:
        raise ConfigError(
            "doctor needs root, since it tries what only root may do; run it with sudo"
        )
    state_dir = os.path.abspath(args.state_dir) if args.state_dir else None
    loaded = toml_file.load(args.config, state_dir=state_dir)
    guarantees.check_names(loaded)
    began = time.monotonic()
    with _hierarchy() as hierarchy:
        rows = guarantees.find(loaded, api_uid(loaded), hierarchy)
    rows += (
        *listener_rows.rows(loaded), *network_rows.rows(loaded), *hidden_files.rows(loaded),
        *_runtimes(loaded),
    )  # fmt: skip
    if args.json:
        print(json.dumps(_summary(rows) | {"guarantees": [asdict(one) for one in rows]}, indent=2))
    else:
        _show(rows, time.monotonic() - began)
    return MISSING if _summary(rows)["missing_required"] else 0


@contextlib.contextmanager
def _hierarchy() -> Iterator[Hierarchy | str]:
    """A place for cgroups that is removed again; the text of the failure where there is none."""
    try:
        place = Hierarchy.find(f"{_GROUP}{os.getpid()}")
    except StageError as error:
        yield error.message
        return
    try:
        for path in place.base.values():
            _forget_killed(os.path.dirname(path))
        yield place
    finally:
        place.remove()


def _forget_killed(parent: str) -> None:
    """Remove the groups of a doctor that was killed; its processes died with it."""
    for path in glob.glob(f"{parent}/{_GROUP}*"):
        if not os.path.exists(f"/proc/{path.rpartition('-')[2]}"):
            for group in (*glob.glob(f"{path}/probe-*"), path):
                with contextlib.suppress(OSError):
                    os.rmdir(group)


def _runtimes(loaded: Config) -> Iterator[Guarantee]:
    """A row for each runtime of the host; none is required.

    Most hosts lack most languages. So a language that Backend.AI does not have gets a row only if
    it is there, or named in the configuration.
    """
    absent = 0
    for one in runtimes.load(loaded).describe():
        if one.name in runtimes.ADDITIONAL and not (one.available or one.name in loaded.runtimes):
            absent += 1
            continue
        detail = ", ".join(one.tools.values()) if one.available else one.reason
        remedy = "" if one.available else f"or [runtimes.{one.name}] enabled = false"
        yield Guarantee("runtimes", one.name, "", one.available, False, detail, remedy)
    if absent:
        detail = f"{absent} more when their packages are installed; see sandboxd runtimes"
        yield Guarantee("runtimes", "others", "", True, False, detail, "")


def _summary(rows: Iterable[Guarantee]) -> dict[str, list[str]]:
    missing = [one for one in rows if not one.held]
    return {
        "missing_required": [one.name for one in missing if one.required],
        "missing": [one.name for one in missing if not one.required],
    }


def _show(rows: tuple[Guarantee, ...], seconds: float) -> None:
    width = max(len(one.name) for one in rows)
    group = ""
    for one in rows:
        if one.group != group:
            print(f"{'' if not group else chr(10)}{one.group}")
            group = one.group
        print(f"  {_state(one)}  {one.name:<{width}}  {_text(one)}")
    missing, optional = _summary(rows)["missing_required"], _summary(rows)["missing"]
    held = len(rows) - len(missing) - len(optional)
    print(f"\n{held} held, {len(optional)} missing and not required, {len(missing)} missing and "
          f"required; {seconds:.1f} s")  # fmt: skip
    if missing:
        print(f"sandboxd serve will not start here: {', '.join(missing)}")


def _state(one: Guarantee) -> str:
    word, colour = ("ok", _GREEN) if one.held else ("missing", _YELLOW)
    if one.required and not one.held:
        colour = _RED
    text = f"{word:<7}"
    return f"{colour}{text}{_PLAIN}" if sys.stdout.isatty() else text


def _text(one: Guarantee) -> str:
    if one.held:
        return (
            f"{one.meaning} ({one.detail})"
            if one.meaning and one.detail
            else (one.meaning or one.detail)
        )
    because = f"{one.meaning}: {one.detail}" if one.meaning else one.detail
    need = "" if one.required else ", not required"
    return f"{because}{need}; {one.remedy}"
