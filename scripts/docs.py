"""The generated parts of the documentation: the table of protections in docs/security.md."""

from __future__ import annotations

import sys
from pathlib import Path

from sandboxd.protections import PROTECTIONS
from sandboxd.protections.entry import Protection

ROOT = Path(__file__).resolve().parent.parent
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


def main() -> int:
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


if __name__ == "__main__":
    sys.exit(main())
