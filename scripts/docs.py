"""The documentation: the generated tables of the pages, and the site in build/site.

The site is made by Sphinx from the Markdown files of this checkout (docs/conf.py); each warning is
an error. Its pages need no network.
"""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sandboxd.config.settings import Config
from sandboxd.config.toml_file import RESTART
from sandboxd.protections import PROTECTIONS, guarantees
from sandboxd.protections.protection import Protection
from sandboxd.runtimes import Runtime
from sandboxd.runtimes.builtin import BUILTIN

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "build" / "site"
HEAD = "| protection | mechanism | modules | attacks | tests | what remains |\n"

LATER = (
    "console.response_chars", "console.runs_kept", "console.keep_s", "console.kept_size",
    "scratch.size", "scratch.inodes",
)  # fmt: skip
"""Keys whose values a session keeps from its creation on: each has a queue of its own (RunQueue)
and a file system."""

RUNTIMES_HEAD = "| name | language | also called | Debian packages | files outside /usr |\n"


def protections_table() -> str:
    """The table of protections, in Markdown."""
    return f"{HEAD}|---|---|---|---|---|---|\n" + "".join(map(_row, PROTECTIONS))


def runtimes_table() -> str:
    """The table of the built-in runtimes, in Markdown."""
    return f"{RUNTIMES_HEAD}|---|---|---|---|---|\n" + "".join(map(_runtime_row, BUILTIN))


def reload_table() -> str:
    """The table of the moments at which the keys of a new configuration take effect."""
    keys = list(_keys(Config()))
    late = [key for key in keys if key.startswith(RESTART)]
    rows = {
        "at once": [key for key in keys if key not in (*late, *LATER)],
        "for later sessions": LATER,
        "after a restart": late,
    }
    lines = [f"| {moment} | {_code(_tables(names, keys))} |\n" for moment, names in rows.items()]
    return "| effective | keys |\n|---|---|\n" + "".join(lines)


def _keys(config: Config) -> Iterator[str]:
    """The keys of the configuration, those in a table with its name; below that a table is one."""
    for field in dataclasses.fields(config):
        value: Any = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from (f"{field.name}.{one.name}" for one in dataclasses.fields(value))
        else:
            yield f"{field.name}." if isinstance(value, dict) else field.name


def _tables(names: Iterable[str], every: Iterable[str]) -> tuple[str, ...]:
    """The names, with `[table]` in the place of all keys of a table."""
    shown, names = list[str](), list(names)
    for name in names:
        table, dot, _ = name.partition(".")
        of_table = {key for key in every if dot and key.startswith(f"{table}.")}
        shown.append(f"[{table}]" if of_table and of_table <= set(names) else name)
    return tuple(dict.fromkeys(shown))


def optional_guarantees_table() -> str:
    """The table of the guarantees that a host need not have by default."""
    required = Config().require.guarantees
    optional = [row for row in guarantees() if row.name not in required]
    lines = [f"| `{row.name}` | {row.meaning} |\n" for row in optional]
    return "| guarantee | meaning |\n|---|---|\n" + "".join(lines)


def _runtime_row(runtime: Runtime) -> str:
    cells = [f"`{runtime.name}`", runtime.title]
    cells += [_code(names) for names in (runtime.aliases, runtime.packages, runtime.paths)]
    return f"| {' | '.join(cells)} |\n".replace("|  |", "| |")


def _row(protection: Protection) -> str:
    files = dict.fromkeys(test.partition("::")[0] for test in protection.tests)
    cells = [
        protection.name,
        protection.mechanism,
        _code(protection.modules),
        _code(protection.attacks),
        _code(tuple(files)),
        protection.remains,
    ]
    return f"| {' | '.join(cells)} |\n".replace("|  |", "| |")


def _code(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


class Table(NamedTuple):
    """A generated table: its page, the name in the comments around it, its contents in Markdown,
    and the part of the code from which they come."""

    page: str
    name: str
    contents: Callable[[], str]
    source: str


TABLES = (
    Table("docs/security.md", "protections", protections_table, "sandboxd/protections"),
    Table("docs/runtimes.md", "runtimes", runtimes_table, "sandboxd/runtimes"),
    Table("docs/operations.md", "reload", reload_table, "sandboxd/config"),
    Table("docs/operations.md", "guarantees", optional_guarantees_table, "sandboxd/protections"),
)


def renew_tables() -> int:
    """Renew the tables, or compare them."""
    return max(map(_renew, TABLES))


def _renew(table: Table) -> int:
    path = ROOT / table.page
    begin, end = (f"<!-- {table.name}: {place} -->\n" for place in ("begin", "end"))
    before, has_begin, rest = path.read_text().partition(begin)
    current, has_end, after = rest.partition(end)
    if not has_begin or not has_end:
        print(f"{table.page} has no lines {begin.strip()} and {end.strip()}")
        return 1
    wanted = f"\n{table.contents()}\n"
    if current == wanted:
        return 0
    if "--check" in sys.argv:
        print(f"{table.page} differs from {table.source}; run scripts/docs")
        return 1
    path.write_text(before + begin + wanted + end + after)
    return 0


def build_site() -> int:
    """Build the site anew, strictly; the exit status of Sphinx."""
    shutil.rmtree(SITE, ignore_errors=True)
    status = _sphinx("html", SITE, SITE / ".doctrees")
    shutil.rmtree(SITE / ".doctrees", ignore_errors=True)
    if status == 0:
        shutil.copyfile(SITE / "README.html", SITE / "index.html")
        print(f"the site begins with {SITE / 'index.html'}")
    return status


def try_site() -> int:
    """Read all pages as for the site, strictly, and write nothing; the exit status of Sphinx."""
    with tempfile.TemporaryDirectory() as directory:
        return _sphinx("dummy", Path(directory), Path(directory, ".doctrees"))


def _sphinx(builder: str, target: Path, trees: Path) -> int:
    options = ("--fail-on-warning", "--keep-going", "--quiet", "--fresh-env")
    places = ("--conf-dir", str(ROOT / "docs"), "--doctree-dir", str(trees), str(ROOT), str(target))
    command = (sys.executable, "-P", "-m", "sphinx", "--builder", builder, *options, *places)
    return subprocess.run(command, check=False).returncode


def main() -> int:
    """Do what the options say."""
    if "--try" in sys.argv:
        return try_site()
    status = renew_tables()
    return status if status or "--site" not in sys.argv else build_site()


if __name__ == "__main__":
    sys.exit(main())
