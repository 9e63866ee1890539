"""The tree that is measured: Python sources and Markdown documents, parsed once.

A Tree reads no more than its root holds, or is made of texts for a test. A Source offers what
several measures need: all nodes, all definitions with their qualified names, docstrings, comments.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PACKAGE, TESTS, SCRIPTS = "sandboxd", "tests", "scripts"
DOCUMENTS = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs/**/*.md")

Routine = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Place:
    """One line that a measure counts; `size` where the measure is more than a count of places."""

    path: str
    line: int
    text: str
    size: int = 1

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.text}"


@dataclass(frozen=True)
class Definition:
    """A class or function of a module, with the definitions around it, outermost first."""

    node: ast.ClassDef | Routine
    outer: tuple[ast.ClassDef | Routine, ...]
    nodes: tuple[ast.AST, ...]
    """Itself and all nodes in it."""

    @property
    def name(self) -> str:
        """The qualified name, such as `Session.close`."""
        return ".".join(node.name for node in (*self.outer, self.node))

    @property
    def is_method(self) -> bool:
        return bool(self.outer) and isinstance(self.outer[-1], ast.ClassDef)


@dataclass(frozen=True)
class Source:
    """A Python file. `path` is relative to the root of the tree, with slashes."""

    path: str
    text: str

    @cached_property
    def module(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        return self._walk.nodes

    @cached_property
    def _walk(self) -> Walk:
        return Walk(self.module)

    @cached_property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @cached_property
    def definitions(self) -> tuple[Definition, ...]:
        return tuple(_definitions(self._walk, self.module, ()))

    @property
    def routines(self) -> Iterator[tuple[Definition, Routine]]:
        """All functions and methods, nested ones too."""
        for definition in self.definitions:
            if not isinstance(definition.node, ast.ClassDef):
                yield definition, definition.node

    @cached_property
    def docstrings(self) -> tuple[ast.Constant, ...]:
        """Every string that stands alone: of modules, classes, functions, and below attributes."""
        return tuple(
            node.value
            for node in self.nodes
            if isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        )

    @cached_property
    def comments(self) -> Mapping[int, str]:
        """The comment of each line that has one, with its number sign."""
        return self._texts[0]

    @cached_property
    def long_strings(self) -> tuple[range, ...]:
        """The lines of each string that has several."""
        return self._texts[1]

    @cached_property
    def _texts(self) -> tuple[Mapping[int, str], tuple[range, ...]]:
        comments, strings, line, position = {}, [], 1, 0
        for match in _TEXT.finditer(self.text):
            line += self.text.count("\n", position, match.start())
            position = match.start()
            if self.text[position] == "#":
                comments[line] = match.group()
            elif breaks := match.group().count("\n"):
                strings.append(range(line, line + breaks + 1))
        return comments, tuple(strings)

    def place(self, node: ast.AST, text: str, size: int = 1) -> Place:
        return Place(self.path, getattr(node, "lineno", 1), text, size)


@dataclass(frozen=True)
class Document:
    """A Markdown file."""

    path: str
    text: str

    @cached_property
    def prose(self) -> list[str]:
        """The lines of the file, with fenced code blanked."""
        lines, fence = [], ""
        for line in self.text.splitlines():
            mark = line.lstrip()[:3]
            if mark in ("```", "~~~") and fence in ("", mark):
                fence = "" if fence else mark
                lines.append("")
            else:
                lines.append("" if fence else line)
        return lines


class Tree:
    """All sources and documents of a checkout."""

    def __init__(self, sources: Iterable[Source], documents: Iterable[Document] = ()) -> None:
        self.sources = tuple(sources)
        self.documents = tuple(documents)

    @classmethod
    def read(cls, root: Path) -> Tree:
        """The tree of a checkout."""
        tops = (PACKAGE, TESTS, SCRIPTS)
        scripts = sorted(path for top in tops for path in (root / top).rglob("*.py"))
        documents = sorted(path for pattern in DOCUMENTS for path in root.glob(pattern))
        return cls.of(
            {str(path.relative_to(root)): path.read_text() for path in scripts + documents}
        )

    @classmethod
    def of(cls, texts: Mapping[str, str]) -> Tree:
        """A tree of these texts by path."""
        return cls(
            [Source(path, text) for path, text in texts.items() if path.endswith(".py")],
            [Document(path, text) for path, text in texts.items() if path.endswith(".md")],
        )

    def below(self, *tops: str) -> Iterator[Source]:
        """The sources in these top directories."""
        return (source for source in self.sources if source.path.split("/")[0] in tops)


_TEXT = re.compile(
    r"""
    \"{3}(?:[^"\\]|\\.|"(?!""))*\"{3} | '{3}(?:[^'\\]|\\.|'(?!''))*'{3}
    | "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*' | \#[^\n]*
    """,
    re.DOTALL | re.VERBOSE,
)
"""A string or a comment, a tenth of the work of the tokenizer; as Python up to 3.11 reads them, an
f-string has no quotes of its own kind within."""


class Walk:
    """A module and all nodes in it, parents first, without Load, Store and Del.

    The nodes of a definition follow each other, so that all are visited once.
    """

    def __init__(self, module: ast.Module) -> None:
        self._nodes: list[ast.AST] = []
        self._spans: dict[ast.AST, slice] = {}
        self._visit(module)
        self.nodes = tuple(self._nodes)

    def below(self, definition: ast.ClassDef | Routine) -> tuple[ast.AST, ...]:
        """A definition and all nodes in it."""
        return self.nodes[self._spans[definition]]

    def _visit(self, node: ast.AST) -> None:
        first = len(self._nodes)
        self._nodes.append(node)
        for value in vars(node).values():
            if isinstance(value, list):
                for one in value:
                    if isinstance(one, ast.AST):
                        self._visit(one)
            elif isinstance(value, ast.AST) and not isinstance(value, ast.expr_context):
                self._visit(value)
        if isinstance(node, ast.ClassDef | Routine):
            self._spans[node] = slice(first, len(self._nodes))


def _definitions(
    walk: Walk, node: ast.AST, outer: tuple[ast.ClassDef | Routine, ...]
) -> Iterator[Definition]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield Definition(child, outer, walk.below(child))
            yield from _definitions(walk, child, (*outer, child))
        elif isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield from _definitions(walk, child, outer)  # an expression holds no definition
