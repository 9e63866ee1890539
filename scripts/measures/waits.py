"""Measures of time in tests: bounds on elapsed time, and sleeps.

A test that asserts an upper bound on elapsed time fails on a busy machine. The measure looks for
`assert` with a comparison whose smaller side reads a clock, names a variable of the same test that
holds a difference of two readings, or takes the wall time of a verdict. A lower bound is no fault
and does not count.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from .tree import TESTS, Definition, Place, Source, Tree

CLOCKS = frozenset({"monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "time"})
WALL_TIME = "wall_ms"


def elapsed_time(tree: Tree) -> Iterator[Place]:
    """Assertions in tests that elapsed time is below something."""
    for source in tree.below(TESTS):
        for test in _outermost(source):
            durations = {name for node in test.nodes for name in _durations(node)}
            for node in test.nodes:
                if isinstance(node, ast.Assert) and _bounds_time(node, durations):
                    yield source.place(node, ast.unparse(node.test))


def _outermost(source: Source) -> Iterator[Definition]:
    """The functions and methods that are in no other."""
    for definition, _ in source.routines:
        if all(isinstance(outer, ast.ClassDef) for outer in definition.outer):
            yield definition


def _durations(node: ast.AST) -> Iterator[str]:
    """The variables to which a node assigns a difference of two readings of a clock."""
    match node:
        case ast.Assign(targets=targets, value=value) if _is_difference(value):
            yield from (target.id for target in targets if isinstance(target, ast.Name))
        case (
            ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            | ast.NamedExpr(target=ast.Name(id=name), value=value)
        ) if _is_difference(value):
            yield name


def _is_difference(value: ast.expr) -> bool:
    return any(
        isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub) and _reads_clock(node)
        for node in ast.walk(value)
    )


def _bounds_time(node: ast.Assert, durations: set[str]) -> bool:
    return any(_is_elapsed(side, durations) for side in _smaller_sides(node))


def _smaller_sides(node: ast.Assert) -> Iterator[ast.expr]:
    """The sides of the comparisons of an assertion that shall be below another."""
    for compare in ast.walk(node.test):
        if isinstance(compare, ast.Compare):
            sides = [compare.left, *compare.comparators]
            for operator, left, right in zip(compare.ops, sides, sides[1:], strict=False):
                if isinstance(operator, ast.Lt | ast.LtE):
                    yield left
                elif isinstance(operator, ast.Gt | ast.GtE):
                    yield right


def _is_elapsed(side: ast.expr, durations: set[str]) -> bool:
    nodes = list(ast.walk(side))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    keys = {node.value for node in nodes if isinstance(node, ast.Constant)}
    return _reads_clock(side) or WALL_TIME in keys or bool(names & durations)


def _reads_clock(expression: ast.expr) -> bool:
    return any(
        isinstance(node, ast.Call) and _callee(node) in CLOCKS and not node.args
        for node in ast.walk(expression)
    )


def _callee(call: ast.Call) -> str:
    """The last part of the name that is called."""
    match call.func:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""


def sleeps(tree: Tree) -> Iterator[Place]:
    """Sleeps in tests; `asyncio.sleep(0)` only lets others run and does not count."""
    for source in tree.below(TESTS):
        for node in source.nodes:
            if isinstance(node, ast.Call) and _callee(node) == "sleep":
                text = ast.unparse(node)
                if text != "asyncio.sleep(0)":
                    yield source.place(node, text)
