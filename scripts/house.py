"""The command behind `scripts/house`: measures the tree and prints how it stands.

A table, or with --json the same for programs; with --list the places that one measure counts.
"""

from __future__ import annotations

import argparse
import gc
import json
import signal
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from .measures.bounds import MEASURES
from .measures.measure import Result
from .measures.tree import Tree

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure this checkout. 1 when a bound is broken."""
    options = _parser().parse_args(arguments)
    gc.disable()  # nothing here is garbage before the end, and looking for it takes seconds
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `scripts/house --list X | head` ends silently
    tree = Tree.read(ROOT)
    names = {options.list} if options.list else {measure.name for measure in MEASURES}
    results = [measure.take(tree) for measure in MEASURES if measure.name in names]
    if options.list:
        print(_places(results[0], options.json), end="")
    else:
        print(_json(results) if options.json else _table(results), end="")
    return int(any(result.over for result in results))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("scripts/house", description="Measure how the house stands.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--list",
        metavar="NAME",
        choices=[measure.name for measure in MEASURES],
        help="print each place that this measure counts, as PATH:LINE TEXT",
    )
    return parser


def _table(results: Sequence[Result]) -> str:
    rows = [("measure", "value", "bound", "goal", "", "meaning")]
    for result in results:
        measure, value = result.measure, str(result.value)
        bound, goal = _figure(measure.bound), _figure(measure.goal)
        rows.append((measure.name, value, bound, goal, result.status, measure.meaning))
    return "".join(
        f"{name:<24}{value:>7}{bound:>7}{goal:>6}  {status:<5}{meaning}\n"
        for name, value, bound, goal, status, meaning in rows
    )


def _figure(number: int | None) -> str:
    return "" if number is None else str(number)


def _json(results: Sequence[Result]) -> str:
    rows = [
        {
            "name": result.measure.name,
            "meaning": result.measure.meaning,
            "value": result.value,
            "bound": result.measure.bound,
            "goal": result.measure.goal,
            "status": result.status,
        }
        for result in results
    ]
    return json.dumps(rows, indent=2) + "\n"


def _places(result: Result, as_json: bool) -> str:
    if as_json:
        return json.dumps([asdict(place) for place in result.places], indent=2) + "\n"
    return "".join(f"{place}\n" for place in result.places)


if __name__ == "__main__":
    raise SystemExit(main())
