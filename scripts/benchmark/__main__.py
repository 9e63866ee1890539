"""The command line of the benchmark; see --help."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from . import document, svg, table
from .bench import QUICK, Amount, Bench
from .daemon import EMPTY, SETTINGS, has_key
from .groups import GROUPS
from .groups.sessions import CREATIONS
from .groups.throughput import LATENCIES, RATES
from .rows import Measured, unmeasured
from .sandboxes import absent

ROOT = Path(__file__).parent.parent.parent
DOCUMENT = ROOT / "docs/operations.md"
X_LABELS = {RATES: "clients", LATENCIES: "clients", CREATIONS: "sessions at rest"}

_DESCRIPTION = """\
Measures private daemons beside other sandboxes of this host, interleaved, and prints a row for each
goal. Absolute times depend on the machine and its load; only ratios within one call have a meaning.
Needs root."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    names = options.groups or list(GROUPS)
    if unknown := [name for name in names if name not in GROUPS]:
        parser.error(f"no group {', '.join(unknown)}; the groups are {', '.join(GROUPS)}")
    if os.geteuid() != 0:
        print("scripts/bench: needs root; use sudo", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends the daemons, as Ctrl-C does
    facts = table.host()
    result = _measure(names, _amount(options))
    if options.plot:
        _plot(options.plot, result)
    if options.json:
        everything = table.as_json(facts, result.rows, result.curves, result.sizing, _notes())
        print(json.dumps(everything, indent=1))
    elif options.table:
        _write_table(table.markdown(facts, result.rows, result.sizing, _commit()), set(names))
    else:
        print("\n".join([table.host_text(facts), *_notes()]))
        print(table.text_table(result.rows))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("scripts/bench", description=_DESCRIPTION)
    add = parser.add_argument
    add("groups", nargs="*", metavar="GROUP", help=f"default: all of {', '.join(GROUPS)}")
    add("--quick", action="store_true", help="less of everything, in under a minute")
    add("-n", type=int, metavar="ROUNDS", help=f"of the latencies; default: {Amount().rounds}")
    add("--json", action="store_true", help="print JSON, with all times in milliseconds")
    add("--plot", metavar="FILE", help="draw throughput, latency and creations as SVG")
    add(
        "--table", action="store_true",
        help="print Markdown; of all groups, it replaces the tables in docs/operations.md",
    )  # fmt: skip
    return parser


def _amount(options: argparse.Namespace) -> Amount:
    amount = QUICK if options.quick else Amount()
    return replace(amount, rounds=max(1, options.n)) if options.n is not None else amount


def _measure(names: Sequence[str], amount: Amount) -> Measured:
    """The results of these groups together."""
    result = Measured()
    with contextlib.ExitStack() as stack:
        bench = Bench(amount, stack)
        stack.callback(bench.progress.clear)
        for name in names:
            part = GROUPS[name](bench)
            result.rows += part.rows
            result.curves += part.curves
            result.sizing |= part.sizing
    result.rows += unmeasured(set(names), result.rows)
    return result


def _notes() -> list[str]:
    """Remarks on this host and this version."""
    notes = [f"not installed, so not measured: {', '.join(absent())}"] if absent() else []
    unknown = [
        f"{section}.{key}"
        for section, keys in SETTINGS[EMPTY].items()
        for key in keys
        if not has_key(section, key)
    ]
    if unknown:
        settings = ", ".join(unknown)
        notes.append(f"no {settings} in this version: warm, fresh and pool empty can be the same")
    return notes


def _plot(path: str, result: Measured) -> None:
    if not result.curves:
        print("scripts/bench: only throughput and sessions have charts", file=sys.stderr)
        return
    Path(path).write_text(svg.svg(result.curves, X_LABELS), encoding="utf-8")


def _write_table(text: str, names: set[str]) -> None:
    print(text)
    if names == set(GROUPS) and document.write(DOCUMENT, text):
        print(f"scripts/bench: the tables are in {DOCUMENT.name}; commit it", file=sys.stderr)


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
