"""The route of GraphQL: POST /admin/gql, the queries of clients. There are no mutations.

The number of tokens of a query is bounded before it is parsed, and with it depth and aliases.
Introspection is refused, since the types of its schema are mutually recursive. Fields come in the
order of the query, because clients print tables by position.

A query is executed in a thread, on rows that are never changed in place, so a long query does not
delay other requests. Its errors are in `errors`, with the status 400.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from starlette.requests import Request
from starlette.responses import Response

from ..access.ownership import caller, owner
from ..access.parameters import ParameterSet, parameters
from ..http import problems
from ..http.responses import JsonResponse, to_json
from ..state import state
from . import gql_items as items

if TYPE_CHECKING:
    from graphql import ExecutionResult, GraphQLError


class Query(ParameterSet):
    """The body of a GraphQL request."""

    aliases = {"operationName": "operation_name"}

    query: str
    variables: dict[str, Any] = {}
    operation_name: str | None = None


class Data(TypedDict):
    """The response to a query, by the names of its fields."""

    data: dict[str, Any] | None


async def gql(request: Request) -> Response:
    """POST /admin/gql: the response to a query, {"data": ...}."""
    result = await _result(request)
    if result.errors:
        return _refusal(result.errors)
    return JsonResponse({"data": result.data})


async def legacy(request: Request) -> Response:
    """POST /admin/graphql: the bare data, for clients of before v6.20210815."""
    result = await _result(request)
    return _refusal(result.errors) if result.errors else JsonResponse(result.data)


async def _result(request: Request) -> ExecutionResult:
    query = await parameters(request, Query)
    app, asking, acts_for = state(request), caller(request), owner(request)
    keypair = await app.authenticator.keys.find(acts_for)
    is_admin = keypair.is_admin if keypair else asking.is_admin and acts_for == asking.name
    own = len(list(app.sessions.of(acts_for)))
    item = items.keypair(acts_for, keypair, is_admin, own, app.config.rate_limit)
    everybody = asking.is_admin and acts_for == asking.name
    sees = None if everybody else acts_for
    live, folders = app.sessions.rows(), [folder.row for folder in app.folders.of(None)]

    def execute() -> ExecutionResult:
        from .gql_queries import Root, answer  # at the first query: most daemons never get one

        root = Root(app, acts_for, asking.is_admin, sees, item, live, folders)
        return answer(query.query, query.variables, query.operation_name, root)

    return await asyncio.to_thread(execute)


def _refusal(errors: Sequence[GraphQLError]) -> Response:
    """A problem document that has the errors also in the place where GraphQL clients read them."""
    formatted = [error.formatted for error in errors]
    msg = "; ".join(error.message for error in errors)
    body = problems.document("graphql-error", "GraphQL-generated error", msg, formatted)
    return Response(to_json(body | {"errors": formatted}), 400, media_type=problems.MEDIA_TYPE)
