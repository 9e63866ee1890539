"""The documentation: the generated table in docs/security.md, and the site in build/site.

The site is made by Sphinx from the Markdown files of this checkout (docs/conf.py); each warning is
an error. Its pages need no network.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from sandboxd.protections import PROTECTIONS
from sandboxd.protections.entry import Protection

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "build" / "site"
SECURITY = ROOT / "docs" / "security.md"
BEGIN, END = "<!-- protections: begin -->\n", "<!-- protections: end -->\n"
HEAD = "| protection | mechanism | modules | attacks | tests | what remains |\n"


def table() -> str:
    """The table of protections, in Markdown."""
    return f"{HEAD}|---|---|---|---|---|---|\n" + "".join(map(_row, PROTECTIONS))


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


def renew_table() -> int:
    """Renew docs/security.md, or compare it."""
    before, begin, rest = SECURITY.read_text().partition(BEGIN)
    current, end, after = rest.partition(END)
    if not begin or not end:
        print(f"docs/security.md has no lines {BEGIN.strip()} and {END.strip()}")
        return 1
    wanted = "\n" + table() + "\n"
    if current == wanted:
        return 0
    if "--check" in sys.argv:
        print("docs/security.md differs from sandboxd/protections; run scripts/docs")
        return 1
    SECURITY.write_text(before + BEGIN + wanted + END + after)
    return 0


def build_site() -> int:
    """Build the site anew, strictly; the exit status of Sphinx."""
    shutil.rmtree(SITE, ignore_errors=True)
    options = ("--builder", "html", "--fail-on-warning", "--keep-going", "--quiet", "--fresh-env")
    directories = ("--conf-dir", str(ROOT / "docs"), "--doctree-dir", str(SITE / ".doctrees"))
    sphinx = (sys.executable, "-P", "-m", "sphinx")
    done = subprocess.run((*sphinx, *options, *directories, str(ROOT), str(SITE)), check=False)
    shutil.rmtree(SITE / ".doctrees", ignore_errors=True)
    if done.returncode == 0:
        shutil.copyfile(SITE / "README.html", SITE / "index.html")
        print(f"the site begins with {SITE / 'index.html'}")
    return done.returncode


def main() -> int:
    """Do what the options say."""
    status = renew_table()
    return status if status or "--site" not in sys.argv else build_site()


if __name__ == "__main__":
    sys.exit(main())
