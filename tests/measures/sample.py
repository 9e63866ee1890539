"""Small trees for the tests of the measures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from textwrap import dedent

from scripts.measures.tree import Place, Tree

Count = Callable[[Tree], Iterable[Place]]


def source(text: str, path: str = "sandboxd/a.py") -> Tree:
    """A tree of one file."""
    return Tree.of({path: dedent(text)})


def texts(count: Count, tree: Tree) -> list[str]:
    """The texts of all places that a measure counts."""
    return [place.text for place in count(tree)]
