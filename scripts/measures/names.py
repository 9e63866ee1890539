"""Measures of names: each is the name of one thing, and the term for it."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import PurePosixPath

from .tree import PACKAGE, SCRIPTS, TESTS, Place, Source, Tree

BANNED = frozenset({"told", "found", "given", "kept", "asked", "made"})
"""Participles: each tells the history of a thing and leaves its kind open."""

RETIRED = {
    "told": "cursor, or reported",
    "stray": "leak",
    "strays": "leaks",
    "ledger": "leak rule",
    "leftover": "leak",
    "leftovers": "leaks",
    "owed": "deferred write",
    "shelf": "registry",
}
"""Words of names that another word has taken the place of: one word for one notion."""

TEST_WORDS = 4
"""Words of a test's name at least: act, condition and outcome."""

LEANING = frozenset({"it", "its", "they", "them", "these", "those", "another", "both", "neither"})
"""First words of a test's name that need the neighbour's name to be understood."""

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def banned(tree: Tree) -> Iterator[Place]:
    """Every place that gives a banned name to something; underscores do not hide it.

    A use of the name, a keyword of a call included, does not count: its definition does.
    """
    for place, name in _names(tree):
        if name.strip("_") in BANNED:
            yield place


def retired(tree: Tree) -> Iterator[Place]:
    """Every place that gives something a longer name with a retired word in it."""
    for place, name in _names(tree):
        words = [word.lower() for word in _WORD.findall(name)]
        for word in words:
            if word in RETIRED and name.strip("_") not in BANNED:
                yield Place(place.path, place.line, f"{place.text}: say {RETIRED[word]}")


def unclear_tests(tree: Tree) -> Iterator[Place]:
    """Every test whose name says too little alone: it is short, or begins as a pronoun does."""
    for place, name in _names(tree):
        is_test = place.text.startswith("function test_") and place.path.startswith(f"{TESTS}/")
        words = name.removeprefix("test_").split("_")
        if is_test and (len(words) < TEST_WORDS or words[0] in LEANING):
            yield place


@cache
def _names(tree: Tree) -> tuple[tuple[Place, str], ...]:
    """Every place that gives a name to something, and the name."""
    return tuple(_each_name(tree))


def _each_name(tree: Tree) -> Iterator[tuple[Place, str]]:
    for source in tree.below(PACKAGE, TESTS, SCRIPTS):
        stem = PurePosixPath(source.path).stem
        yield Place(source.path, 1, f"module {stem}"), stem
        for node in source.nodes:
            for kind, name in _bound(node) if isinstance(node, _BINDING) else ():
                yield source.place(node, f"{kind} {name}"), name


_BINDING = (
    ast.Name, ast.Attribute, ast.arg, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef,
    ast.ExceptHandler, ast.alias, ast.MatchAs, ast.MatchStar, ast.MatchMapping,
)  # fmt: skip


def _bound(node: ast.AST) -> Iterator[tuple[str, str]]:
    """(kind, name) of each name that a node itself gives to something."""
    match node:
        case ast.Name(id=name, ctx=ast.Store()):
            yield "variable", name
        case ast.Attribute(attr=name, ctx=ast.Store()):
            yield "attribute", name
        case ast.arg(arg=name):
            yield "argument", name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            yield "function", name
        case ast.ClassDef(name=name):
            yield "class", name
        case ast.ExceptHandler(name=str(name)):
            yield "exception", name
        case ast.alias(name=name, asname=alias):
            yield "import", alias or name
        case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield "pattern", name
        case ast.MatchMapping(rest=str(name)):
            yield "pattern", name


def repeated_classes(tree: Tree) -> Iterator[Place]:
    """Every definition of a class name that several modules define, nested and private ones too."""
    named: dict[str, list[tuple[Source, ast.ClassDef]]] = defaultdict(list)
    for source in tree.below(PACKAGE):
        for definition in source.definitions:
            if isinstance(definition.node, ast.ClassDef):
                named[definition.node.name].append((source, definition.node))
    for name, definitions in named.items():
        paths = {source.path for source, _ in definitions}
        if len(paths) > 1:
            for source, node in definitions:
                yield source.place(node, f"class {name}, also in {_others(paths, source.path)}")


def repeated_modules(tree: Tree) -> Iterator[Place]:
    """Every module whose name another module of the package has, `__init__` and the like apart."""
    paths: dict[str, set[str]] = defaultdict(set)
    for source in tree.below(PACKAGE):
        stem = PurePosixPath(source.path).stem
        if not stem.startswith("__"):
            paths[stem].add(source.path)
    for name, same in paths.items():
        if len(same) > 1:
            for path in sorted(same):
                yield Place(path, 1, f"module {name}, also {_others(same, path)}")


def _others(paths: Iterable[str], path: str) -> str:
    return ", ".join(sorted(other for other in paths if other != path))
