"""Measures of prose: old phrases in docstrings, comments, messages and Markdown; long lines there.

A phrase is a regular expression without case. A space in it stands for any white space, so that
a phrase is seen across the end of a line. One that begins with `^` must stand where a sentence or
a clause after a semicolon begins. Messages are the strings of the package with a space in them;
strings of tests are data, and do not count.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from .tree import PACKAGE, SCRIPTS, TESTS, Place, Source, Tree

LONGEST_LINE = 120

_OPENING = re.compile(r"(?:\A|[.;!?]\s+|(?:\A|\n)\s*(?:[-*>]|#+)\s+)\Z")
_LONGEST_OPENING = 12
_CODE = re.compile(r"`[^`\n]+`")
"""Code in a line of Markdown: names and messages of the program, which do not count there."""

_LINK = re.compile(r"\s*(?:[-*] )?(?:\[[^\]]*\][:(]\s*)?<?https?://\S+")


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of prose, and the line on which it begins."""

    path: str
    line: int
    text: str


def phrase(pattern: str) -> Callable[[Tree], Iterator[Place]]:
    """The measure that counts the places of a phrase; see the top of this module."""
    opening = pattern.startswith("^")
    regex = re.compile(pattern.removeprefix("^").replace(" ", r"\s+"), re.IGNORECASE)

    def count(tree: Tree) -> Iterator[Place]:
        for passage in passages(tree):
            for match in regex.finditer(passage.text):
                if not opening or _opens(passage.text, match.start()):
                    line = passage.line + passage.text.count("\n", 0, match.start())
                    yield Place(passage.path, line, _excerpt(passage.text, match))

    return count


def _opens(text: str, position: int) -> bool:
    """Does a sentence or a clause begin at this position?"""
    return bool(_OPENING.search(text, max(0, position - _LONGEST_OPENING), position))


def _excerpt(text: str, match: re.Match[str], around: int = 30) -> str:
    return " ".join(text[max(0, match.start() - around) : match.end() + around].split())


@cache
def passages(tree: Tree) -> tuple[Passage, ...]:
    """All prose of a tree, paragraph by paragraph."""
    return tuple(_passages(tree))


def _passages(tree: Tree) -> Iterator[Passage]:
    for source in tree.below(PACKAGE, TESTS, SCRIPTS):
        for line, text in (*_strings(source), *_comments(source)):
            yield from _paragraphs(source.path, line, text)
    for document in tree.documents:
        yield from _paragraphs(document.path, 1, _CODE.sub("`code`", "\n".join(document.prose)))


def _paragraphs(path: str, line: int, text: str) -> Iterator[Passage]:
    """The parts between blank lines, without white space at either end."""
    for part in re.finditer(r"\S(?:(?!\n\s*\n)[\s\S])*", text):
        yield Passage(path, line + text.count("\n", 0, part.start()), part.group())


def _strings(source: Source) -> Iterator[tuple[int, str]]:
    """Docstrings, and in the package messages too."""
    docstrings = set(source.docstrings)
    package = source.path.startswith(f"{PACKAGE}/")
    for node in source.nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            message = package and " " in node.value.strip()
            if node in docstrings or message:
                yield node.lineno, node.value


def _comments(source: Source) -> Iterator[tuple[int, str]]:
    """Comments; those that fill whole lines, one below the other, are one text."""
    block: list[str] = []
    for number, comment in source.comments.items():
        alone = source.lines[number - 1].lstrip().startswith("#")
        text = comment.lstrip("#").strip()
        if not alone:
            yield number, text
            continue
        block.append(text)
        following = source.lines[number].lstrip() if number < len(source.lines) else ""
        if not following.startswith("#"):
            yield number - len(block) + 1, "\n".join(block)
            block = []


def long_lines(tree: Tree) -> Iterator[Place]:
    """Lines of Markdown that are too long; tables, fenced code and bare links apart."""
    for document in tree.documents:
        for number, line in enumerate(document.prose, 1):
            table = line.lstrip().startswith("|")
            if len(line) > LONGEST_LINE and not table and not _LINK.fullmatch(line.rstrip(" )>.")):
                yield Place(document.path, number, f"{len(line)} characters: {line[:50]}")
