"""Measures of docstrings and annotations: what a reader gets without reading the code.

A module docstring begins with a noun phrase. The rule is a list, not grammar: its first word must
be none of OPENINGS and none of VERBS, and where it is one of AMBIGUOUS, a noun and a verb at once,
no determiner may follow ("Names the point" is a verb, "Names of a session" is a noun). A word in
backticks is the name of something.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from .tree import PACKAGE, SCRIPTS, TESTS, Definition, Place, Routine, Tree


def words(text: str) -> frozenset[str]:
    """The words of a text, for a list that reads as one."""
    return frozenset(text.split())


OPENINGS = words(
    "what how who whoever whose whom whether which where when why can could does do did is are was"
    " were has have may must shall should will it this that there if on for after before with"
    " without in at by from to"
)
"""Question words, helping verbs, pronouns and prepositions."""

VERBS = words(
    "acts adds allows answers applies asks begins binds bounds bridges brings builds carries checks"
    " cleans closes collects compares copies creates decides defines deletes does empties ends"
    " enters follows forks forms frees gives goes handles holds imports installs joins keeps kills"
    " lets lists looks makes maps moves notices offers opens parses passes plays prints proves"
    " provides puts reads receives removes renders returns says sends serves shows signs sits"
    " speaks starts stops stores takes tells tries turns unpacks waits watches writes"
    " add answer build carry check collect copy follow free give hold keep let look make measure"
    " move notice open prove put read remove serve take unpack write"
)
"""Verbs as a docstring of a function may begin with them, and a module's does not."""

AMBIGUOUS = words(
    "attacks changes controls counts forms limits links logs maps measures mounts names queues"
    " records reports runs sets sorts spools starts steps streams tests uses works"
)
DETERMINERS = words("a an the this that these each every all its their what which `sh")


def module_openings(tree: Tree) -> Iterator[Place]:
    """Every module without a docstring, or with one that does not begin with a noun phrase.

    An `__init__.py` without a statement needs no docstring.
    """
    for source in tree.below(PACKAGE, TESTS, SCRIPTS):
        if source.path.endswith("/__init__.py") and not source.module.body:
            continue
        docstring = ast.get_docstring(source.module)
        if not docstring:
            yield Place(source.path, 1, "no docstring")
        elif not begins_with_noun(docstring):
            yield Place(source.path, 1, docstring.splitlines()[0])


def begins_with_noun(docstring: str) -> bool:
    """The rule at the top of this module."""
    words = [re.sub(r"[^\w'`-]", "", word).lower() for word in docstring.split()[:2]]
    first, second = (*words, "", "")[:2]
    if first in AMBIGUOUS:
        return second not in DETERMINERS
    return first not in OPENINGS and first not in VERBS


def missing_docstrings(tree: Tree) -> Iterator[Place]:
    """Public classes, functions and methods of the package without a docstring.

    A name with an underscore in front is not public, nor is what a function or a private class has.
    """
    for source in tree.below(PACKAGE):
        for definition in source.definitions:
            if _is_public(definition) and not ast.get_docstring(definition.node):
                yield source.place(definition.node, definition.name)


def _is_public(definition: Definition) -> bool:
    names = [node.name for node in (*definition.outer, definition.node)]
    in_function = any(not isinstance(node, ast.ClassDef) for node in definition.outer)
    return not in_function and not any(name.startswith("_") for name in names)


def missing_annotations(tree: Tree) -> Iterator[Place]:
    """Arguments and results of functions of the package without a type, `self` and `cls` apart."""
    for source in tree.below(PACKAGE):
        for definition, routine in source.routines:
            bare = [arg.arg for arg in _arguments(definition, routine) if arg.annotation is None]
            if routine.returns is None:
                bare.append("return")
            for name in bare:
                yield source.place(routine, f"{definition.name}: {name}")


def _arguments(definition: Definition, routine: Routine) -> list[ast.arg]:
    by_position = [*routine.args.posonlyargs, *routine.args.args]
    static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in routine.decorator_list)
    if definition.is_method and not static:
        del by_position[:1]
    rest = [arg for arg in (routine.args.vararg, routine.args.kwarg) if arg is not None]
    return [*by_position, *routine.args.kwonlyargs, *rest]
