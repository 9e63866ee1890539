"""A loop over the cases of a rule, in the place of a test for each case.

A test costs pytest and its distribution to processes some five milliseconds, and most cases of a
rule cost microseconds. The cases share the fixtures of their test, so a test that changes its
fixtures has `pytest.mark.parametrize` instead. A failure names its case.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Test = Callable[..., None]


def each_case(names: str | tuple[str, ...], cases: Iterable[Any]) -> Callable[[Test], Test]:
    """Call the test for each of `cases`, with values for its arguments `names` ("a, b" or a tuple),
    as `pytest.mark.parametrize` takes them. Raises ValueError where there is no case."""
    keys = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    rows = [_row(keys, case) for case in cases]
    if not rows:
        raise ValueError(f"no case of {', '.join(keys)}")

    def decorate(test: Test) -> Test:
        @functools.wraps(test)
        def loop(**fixtures: Any) -> None:
            for row in rows:
                try:
                    test(**fixtures, **row)
                except BaseException as error:  # a failure of any kind; raised again
                    error.add_note(f"the case: {row!r}")
                    raise

        signature = inspect.signature(test)
        rest = [one for one in signature.parameters.values() if one.name not in keys]
        # inspect and pytest look for it; mypy does not know it
        vars(loop)["__signature__"] = signature.replace(parameters=rest)
        return loop

    return decorate


def _row(keys: list[str], case: Any) -> Mapping[str, Any]:
    """The values of a case, by name. Raises ValueError where there are more or fewer."""
    return dict(zip(keys, (case,) if len(keys) == 1 else case, strict=True))
