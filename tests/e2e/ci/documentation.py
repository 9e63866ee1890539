"""The files to copy in docs/ci.md, as the tests use them."""

from __future__ import annotations

import re

from ..daemon import ROOT


def block(heading: str, language: str) -> str:
    """The first block of a language in the section `heading`."""
    section = (ROOT / "docs/ci.md").read_text().partition(f"\n## {heading}\n")[2]
    match = re.search(rf"```{language}\n(.*?)```", section.partition("\n## ")[0], re.DOTALL)
    assert match, f"docs/ci.md has no such block: {heading}, {language}"
    return match[1]
