"""Measures of exemptions: checks that are switched off, exceptions all caught, tests skipped.

Each may be right, and then its line says why: in a comment behind it, or in the reason of a skip.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from .tree import PACKAGE, SCRIPTS, TESTS, Place, Source, Tree

SKIPS = frozenset({"skip", "skipif", "xfail", "importorskip"})

_TYPE_IGNORE = re.compile(r"#\s*type:\s*ignore(?:\[[^\]]*\])?")
_NOQA = re.compile(r"#\s*noqa(?::\s*[A-Z]+\d+(?:[,\s]+[A-Z]+\d+)*)?")
_BROAD = re.compile(r"\b(?:Base)?Exception\b")


def type_ignores(tree: Tree) -> Iterator[Place]:
    """Lines whose types are not checked."""
    return _comments(tree, _TYPE_IGNORE)


def noqas(tree: Tree) -> Iterator[Place]:
    """Lines that ruff passes over."""
    return _comments(tree, _NOQA)


def _comments(tree: Tree, directive: re.Pattern[str]) -> Iterator[Place]:
    for source in tree.below(PACKAGE, TESTS, SCRIPTS):
        for line, comment in source.comments.items():
            if directive.search(comment):
                yield Place(source.path, line, comment)


def broad_excepts(tree: Tree) -> Iterator[Place]:
    """Handlers of every exception: of `Exception`, of `BaseException`, or with no class named."""
    for source in tree.below(PACKAGE, TESTS, SCRIPTS):
        for node in source.nodes:
            if isinstance(node, ast.ExceptHandler) and _is_broad(node):
                yield source.place(node, source.lines[node.lineno - 1].strip())


def _is_broad(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or bool(_BROAD.search(ast.unparse(handler.type)))


def skips(tree: Tree) -> Iterator[Place]:
    """Tests that are skipped, always or on some hosts."""
    return (place for source in tree.below(TESTS) for place, _ in _skips(source))


def unexplained(tree: Tree) -> Iterator[Place]:
    """All places of the measures above whose line has no reason."""
    comments = {source.path: source.comments for source in tree.sources}
    for place in {*type_ignores(tree), *noqas(tree), *broad_excepts(tree)}:
        comment = comments[place.path].get(place.line, "")
        if not re.search(r"\w", _NOQA.sub("", _TYPE_IGNORE.sub("", comment))):
            yield place
    for source in tree.below(TESTS):
        yield from (place for place, explained in _skips(source) if not explained)


def _skips(source: Source) -> Iterator[tuple[Place, bool]]:
    """Each skip of a module, and whether it gives a reason."""
    calls = {node.func: node for node in source.nodes if isinstance(node, ast.Call)}
    for node in source.nodes:
        if isinstance(node, ast.Attribute) and _is_skip(node):
            place = source.place(node, source.lines[node.lineno - 1].strip())
            yield place, _gives_reason(node.attr, calls.get(node))


def _is_skip(node: ast.Attribute) -> bool:
    return node.attr in SKIPS and ast.unparse(node.value) in ("pytest", "pytest.mark")


def _gives_reason(skip: str, call: ast.Call | None) -> bool:
    """A condition is no reason; the module that is missing is one."""
    if call is None:
        return False
    if any(keyword.arg == "reason" for keyword in call.keywords):
        return True
    return skip in ("skip", "importorskip") and bool(call.args)
