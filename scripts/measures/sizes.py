"""Measures of size: files, functions, branches, lines of code.

`complexity` follows McCabe as ruff's C901 counts: one for the function, and one for each `if`,
`elif`, `for`, `while`, `except`, for the `else` of a `try`, for each `case` but a last one that
matches everything, and for each nested function. `with`, comprehensions and operators do not
count. `decisions` adds the choices within expressions: one for each `and` and `or`, each
conditional expression, each `if` of a comprehension and each guard of a `case`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from functools import cache

from .tree import PACKAGE, SCRIPTS, TESTS, Definition, Place, Routine, Source, Tree


def files(tree: Tree) -> Iterator[Place]:
    """The lines of each file."""
    for source in tree.below(PACKAGE, TESTS, SCRIPTS):
        size = len(source.lines)
        yield Place(source.path, 1, f"{size} lines", size)


def functions(tree: Tree) -> Iterator[Place]:
    """The lines of each function and method, its docstring and decorators apart."""
    for source in tree.below(PACKAGE, TESTS, SCRIPTS):
        for definition, routine in source.routines:
            size = _length(routine)
            yield source.place(routine, f"{definition.name}: {size} lines", size)


def _length(routine: Routine) -> int:
    size = (routine.end_lineno or routine.lineno) - routine.lineno + 1
    if ast.get_docstring(routine, clean=False) is not None:
        first = routine.body[0]
        size -= (first.end_lineno or first.lineno) - first.lineno + 1
    return size


def complexities(tree: Tree) -> Iterator[Place]:
    """The complexity of each function."""
    return _each_function(tree, complexity)


def decision_counts(tree: Tree) -> Iterator[Place]:
    """The decisions in each function."""
    return _each_function(tree, decisions)


def _each_function(tree: Tree, count: Callable[[Definition], int]) -> Iterator[Place]:
    for source in tree.below(PACKAGE, TESTS, SCRIPTS):
        for definition, routine in source.routines:
            size = count(definition)
            yield source.place(routine, f"{definition.name}: {size}", size)


def above(count: Callable[[Tree], Iterator[Place]], most: int) -> Callable[[Tree], Iterator[Place]]:
    """Only the places of a measure whose size is above `most`."""
    return lambda tree: (place for place in count(tree) if place.size > most)


def complexity(function: Definition) -> int:
    """McCabe's number as C901 has it; see the top of this module."""
    return sum(_branches(node) for node in function.nodes if isinstance(node, _BRANCHING))


_BRANCHING = (
    ast.FunctionDef, ast.AsyncFunctionDef, ast.If, ast.For, ast.AsyncFor, ast.While,
    ast.ExceptHandler, ast.Try, ast.TryStar, ast.Match,
)  # fmt: skip


def _branches(node: ast.AST) -> int:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            return 1
        case ast.If() | ast.For() | ast.AsyncFor() | ast.While() | ast.ExceptHandler():
            return 1
        case ast.Try() | ast.TryStar():
            return int(bool(node.orelse))
        case ast.Match(cases=cases):
            return len(cases) - _matches_everything(cases[-1])
    return 0


def _matches_everything(case: ast.match_case) -> bool:
    pattern = case.pattern
    return isinstance(pattern, ast.MatchAs) and pattern.pattern is None and case.guard is None


def decisions(function: Definition) -> int:
    """The complexity and the decisions within expressions; see the top of this module."""
    return complexity(function) + sum(
        _choices(node) for node in function.nodes if isinstance(node, _CHOOSING)
    )


_CHOOSING = (ast.BoolOp, ast.IfExp, ast.comprehension, ast.match_case)


def _choices(node: ast.AST) -> int:
    match node:
        case ast.BoolOp(values=values):
            return len(values) - 1
        case ast.IfExp():
            return 1
        case ast.comprehension(ifs=ifs):
            return len(ifs)
        case ast.match_case(guard=ast.expr()):
            return 1
    return 0


def lines(top: str) -> Callable[[Tree], Iterator[Place]]:
    """All lines of each file below a top directory."""
    return lambda tree: (
        Place(source.path, 1, f"{len(source.lines)} lines", len(source.lines))
        for source in tree.below(top)
    )


def code_lines(top: str) -> Callable[[Tree], Iterator[Place]]:
    """The lines with code of each file: blank lines, comments and docstrings apart."""

    def count(tree: Tree) -> Iterator[Place]:
        for source in tree.below(top):
            size = len(_code(source))
            yield Place(source.path, 1, f"{size} lines of code", size)

    return count


@cache
def _code(source: Source) -> set[int]:
    code = {
        number
        for number, line in enumerate(source.lines, 1)
        if line.strip() and not (number in source.comments and line.lstrip().startswith("#"))
    }
    for string in source.long_strings:
        code.update(string)
    for docstring in source.docstrings:
        code.difference_update(range(docstring.lineno, (docstring.end_lineno or 0) + 1))
    return code


def modules(top: str) -> Callable[[Tree], Iterator[Place]]:
    """Each module below a top directory."""
    return lambda tree: (Place(source.path, 1, "module") for source in tree.below(top))


def routines(top: str) -> Callable[[Tree], Iterator[Place]]:
    """Each function and method below a top directory."""
    return lambda tree: (
        source.place(routine, definition.name)
        for source in tree.below(top)
        for definition, routine in source.routines
    )


def code(tree: Tree) -> Iterator[Place]:
    """The lines with code of each file of the package and of the tests."""
    for top in (PACKAGE, TESTS):
        yield from code_lines(top)(tree)


def tests_per_hundred(places: Sequence[Place]) -> int:
    """The summary of `code` that gives the lines of tests for a hundred lines of the package."""
    tests = sum(place.size for place in places if place.path.startswith(f"{TESTS}/"))
    package = sum(place.size for place in places) - tests
    return round(100 * tests / package) if package else 0
