"""The route of completions, POST /session/{ref}/complete: there are none."""

from __future__ import annotations

from typing import Any, TypedDict

from starlette.requests import Request

from ..access.parameters import ParameterSet, parameters
from ..http.responses import JsonResponse
from ..state import session


class Completions(TypedDict):
    """No completions."""

    status: str
    completions: list[str]


class CompletionResult(TypedDict):
    """The response to a request for completions."""

    result: Completions


class Complete(ParameterSet):
    """The body of a request for completions, none of which the server has."""

    mode: str = "complete"
    code: str = ""
    options: dict[str, Any] = {}


async def complete(request: Request) -> JsonResponse[CompletionResult]:
    """POST /session/{ref}/complete: no completions, since there are only batch runs."""
    await parameters(request, Complete)
    session(request)
    return complete_nothing()


def complete_nothing() -> JsonResponse[CompletionResult]:
    """The response to a request for completions: there are none."""
    return JsonResponse({"result": {"status": "finished", "completions": []}})
