"""The place of the benchmark's tables in docs/operations.md, between two comments."""

from __future__ import annotations

from pathlib import Path

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"


def replaced(text: str, table: str) -> str | None:
    """The document with this table between the comments; None if it does not have them."""
    before, begin, rest = text.partition(f"{BEGIN}\n")
    _, end, after = rest.partition(END)
    return f"{before}{begin}{table}{end}{after}" if begin and end else None


def write(path: Path, table: str) -> bool:
    """Put the table into the document at `path`; False if it has no place for it."""
    text = replaced(path.read_text(encoding="utf-8"), table)
    if text is None:
        return False
    path.write_text(text, encoding="utf-8")
    return True
