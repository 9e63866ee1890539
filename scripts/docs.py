"""The documentation: the generated tables of the pages, and the site in build/site.

The site is made by Sphinx from the Markdown files of this checkout (docs/conf.py); each warning is
an error. Its pages need no network.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from sandboxd.protections import PROTECTIONS
from sandboxd.protections.protection import Protection
from sandboxd.runtimes import Runtime
from sandboxd.runtimes.builtin import BUILTIN

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "build" / "site"
HEAD = "| protection | mechanism | modules | attacks | tests | what remains |\n"


RUNTIMES_HEAD = "| name | language | also called | Debian packages | files outside /usr |\n"


def protections_table() -> str:
    """The table of protections, in Markdown."""
    return f"{HEAD}|---|---|---|---|---|---|\n" + "".join(map(_row, PROTECTIONS))


def runtimes_table() -> str:
    """The table of the built-in runtimes, in Markdown."""
    return f"{RUNTIMES_HEAD}|---|---|---|---|---|\n" + "".join(map(_runtime_row, BUILTIN))


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


TABLES = (
    ("docs/security.md", "protections", protections_table, "sandboxd/protections"),
    ("docs/runtimes.md", "runtimes", runtimes_table, "sandboxd/runtimes"),
)
"""Page, name in the comments around the table, contents, and where they come from."""


def renew_tables() -> int:
    """Renew the tables, or compare them."""
    return max(_renew(*table) for table in TABLES)


def _renew(page: str, name: str, table: Callable[[], str], source: str) -> int:
    path = ROOT / page
    begin, end = (f"<!-- {name}: {place} -->\n" for place in ("begin", "end"))
    before, has_begin, rest = path.read_text().partition(begin)
    current, has_end, after = rest.partition(end)
    if not has_begin or not has_end:
        print(f"{page} has no lines {begin.strip()} and {end.strip()}")
        return 1
    wanted = "\n" + table() + "\n"
    if current == wanted:
        return 0
    if "--check" in sys.argv:
        print(f"{page} differs from {source}; run scripts/docs")
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
