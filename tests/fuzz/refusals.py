"""The rule for every parser of the api: what it does not read, it refuses with a 4xx status."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sandboxd.api.http import problems
from sandboxd.api.http.responses import to_json
from sandboxd.errors import Refused


def refused(error: Refused) -> None:
    """The refusal is a problem document that can be sent, with a 4xx status."""
    status, document = problems.of_error(error)
    assert 400 <= status < 500, (status, document)
    assert json.loads(to_json(document))["title"]


def attempt(act: Callable[[], Any]) -> Any:
    """The result of `act`; None if it refuses."""
    try:
        return act()
    except Refused as error:
        refused(error)
        return None
