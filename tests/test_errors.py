"""The tree of exceptions: its drawing in sandboxd/errors.py is that of the classes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sandboxd import errors
from sandboxd.api.http import problems

BRANCH = re.compile(r" {4}((?:[|`]  |   )*)(?:[|`]- )?(\w+)")


def drawn() -> Iterator[tuple[str, str]]:
    """Each class of the drawing, and the class above it."""
    above = ["object"]
    for line in (errors.__doc__ or "").splitlines():
        if match := BRANCH.match(line):
            depth = len(match[1]) // 3 + (match[0][4:] != match[2])
            above[depth + 1 :] = [match[2]]
            yield match[2], above[depth]


def test_drawing_has_each_class_that_has_a_response_below_its_base() -> None:
    classes = {one.__name__: one.__base__.__name__ for one in problems.TABLE if one.__base__}
    assert dict(drawn()) == classes | {"SandboxdError": "object"}


def test_each_class_of_the_module_has_a_response() -> None:
    classes = {one for one in vars(errors).values() if isinstance(one, type)}
    own = {one for one in classes if issubclass(one, errors.SandboxdError)}
    assert own - problems.TABLE.keys() == set()
