"""Measures of import circles, between modules and between packages of sandboxd.

An edge leads from a module to each module that one of its import statements names, at the top of
the file or within a function. `from .x import y` names the module `x.y` if there is one, else `x`.
A package that Python imports only on the way to one of its modules is no edge. Imports below
`if TYPE_CHECKING` never run, and are counted apart.

An edge is part of a circle when a way leads back from its target. The value of a measure is the
number of such edges: it falls with each import that is taken out of a circle.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from .tree import PACKAGE, Place, Source, Tree


@dataclass(frozen=True, slots=True)
class Edge:
    """An import of one module by another. `typing`: it stands below `if TYPE_CHECKING`."""

    path: str
    line: int
    importer: str
    imported: str
    typing: bool


def module_circles(tree: Tree) -> Iterator[Place]:
    """Imports that are part of a circle of modules."""
    return _circles((edge for edge in edges(tree) if not edge.typing), lambda module: module)


def typing_circles(tree: Tree) -> Iterator[Place]:
    """Imports below `if TYPE_CHECKING` that would be part of a circle if they ran."""
    every = edges(tree)
    lines = {(edge.path, edge.line) for edge in every if edge.typing}
    places = _circles(every, lambda module: module)
    return (place for place in places if (place.path, place.line) in lines)


def package_circles(tree: Tree) -> Iterator[Place]:
    """Imports that are part of a circle of the packages and modules right below sandboxd."""

    def top(module: str) -> str:
        return ".".join(module.split(".")[:2])

    return _circles((edge for edge in edges(tree) if not edge.typing), top)


def subpackage_circles(tree: Tree) -> Iterator[Place]:
    """Imports that are part of a circle of packages of any depth.

    The modules of a package without sub-packages are one with it. Those beside sub-packages, which
    join these together, stand for themselves.
    """
    packages = {name for name, source in _modules(tree).items() if _is_package(source)}
    with_packages = {name.rpartition(".")[0] for name in packages}

    def package(module: str) -> str:
        parent = module.rpartition(".")[0]
        return module if module in packages or parent in with_packages else parent

    return _circles((edge for edge in edges(tree) if not edge.typing), package)


def typing_imports(tree: Tree) -> Iterator[Place]:
    """Imports of modules of sandboxd below `if TYPE_CHECKING`."""
    return (Place(e.path, e.line, f"imports {e.imported}") for e in edges(tree) if e.typing)


@cache
def edges(tree: Tree) -> tuple[Edge, ...]:
    """Every import of one module of the package by another."""
    return tuple(_edges(tree))


def _edges(tree: Tree) -> Iterator[Edge]:
    modules = _modules(tree)
    for importer, source in modules.items():
        below_typing = _below_typing(source)
        for node in source.nodes:
            if isinstance(node, ast.Import | ast.ImportFrom):
                for imported in dict.fromkeys(_targets(node, importer, source, modules)):
                    if imported != importer:
                        typing = node in below_typing
                        yield Edge(source.path, node.lineno, importer, imported, typing)


def _modules(tree: Tree) -> dict[str, Source]:
    """The modules of the package by dotted name."""
    return {_dotted(source.path): source for source in tree.below(PACKAGE)}


def _dotted(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _is_package(source: Source) -> bool:
    return source.path.endswith("/__init__.py")


def _targets(
    node: ast.Import | ast.ImportFrom, importer: str, source: Source, modules: Mapping[str, Source]
) -> Iterator[str]:
    if isinstance(node, ast.Import):
        candidates = [alias.name for alias in node.names]
    else:
        base = _base(node, importer, source)
        candidates = [f"{base}.{alias.name}" for alias in node.names]
    for name in candidates:
        if name in modules:
            yield name
        elif isinstance(node, ast.ImportFrom) and name.rpartition(".")[0] in modules:
            yield name.rpartition(".")[0]


def _base(node: ast.ImportFrom, importer: str, source: Source) -> str:
    """The module after `from`, with its dots resolved."""
    if not node.level:
        return node.module or ""
    parts = importer.split(".")
    if _is_package(source):
        parts.append("__init__")
    return ".".join([*parts[: -node.level], *filter(None, [node.module])])


def _below_typing(source: Source) -> set[ast.AST]:
    """All nodes in the body of an `if TYPE_CHECKING`."""
    return {
        node
        for branch in source.nodes
        if isinstance(branch, ast.If) and _is_type_checking(branch.test)
        for statement in branch.body
        for node in ast.walk(statement)
    }


def _is_type_checking(test: ast.expr) -> bool:
    match test:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name == "TYPE_CHECKING"
    return False


def _circles(edges: Iterable[Edge], group: Callable[[str], str]) -> Iterator[Place]:
    """The edges on a circle, when each module stands for its group."""
    between = [(edge, group(edge.importer), group(edge.imported)) for edge in edges]
    onward: dict[str, set[str]] = defaultdict(set)
    for _, importer, imported in between:
        if importer != imported:
            onward[importer].add(imported)
    places: dict[Place, None] = {}  # a statement that names several modules counts once
    for edge, importer, imported in between:
        if importer != imported and (way := _way(onward, imported, importer)):
            places[Place(edge.path, edge.line, " -> ".join([importer, *way]))] = None
    return iter(places)


def _way(onward: Mapping[str, set[str]], start: str, goal: str) -> list[str]:
    """The shortest way from one node to another, both included; empty where none leads there."""
    ways = [[start]]
    seen = {start}
    for way in ways:
        if way[-1] == goal:
            return way
        for node in sorted(onward.get(way[-1], set()) - seen):
            seen.add(node)
            ways.append([*way, node])
    return []
