"""The owner that a request acts for. Every route with Access.OWNER asks here, and nowhere else.

A caller acts for itself. An admin may act for another owner, whose name is the parameter
owner_access_key, in the query or in a JSON body. An owner is an access key, or uid:N for a user of
this host (callers.py). A keypair may be deleted: then an admin can still remove what it owned, but
nothing new is created for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import HTTPConnection

from ...errors import AuthFailed, Forbidden, Invalid, NotFound
from ..telemetry.audit_log import annotate
from .authentication import Authenticator
from .callers import Caller, is_user

OWNER = "owner_access_key"


def caller(request: HTTPConnection) -> Caller:
    """The caller of the request. Raises AuthFailed on a route that is open to everybody."""
    caller = request.scope["state"].get("caller")
    if not isinstance(caller, Caller):
        raise AuthFailed("Unauthorized access")
    return caller


def owner(request: HTTPConnection) -> str:
    """The owner that this request acts for. Raises Forbidden if the caller may not act for it."""
    asking = caller(request)
    name = request.query_params.get(OWNER) or request.scope["state"].get(OWNER) or asking.name
    if name != asking.name and not asking.is_admin:
        raise Forbidden("only admins can act for another owner")
    annotate(request, owner=str(name))
    return str(name)


async def creator(request: HTTPConnection) -> str:
    """The owner of the resource to be created. Raises NotFound for a keypair that is not active."""
    name = owner(request)
    authenticator: Authenticator = request.app.state.sandboxd.authenticator
    is_known = name == caller(request).name or is_user(name)
    if not is_known and not await authenticator.keys.find(name):
        raise NotFound("keypair", f"there is no active keypair {name}")
    return name


def name_owner(request: HTTPConnection, parameters: Mapping[str, Any]) -> None:
    """Keep the owner that a request's parameters name, for `owner`. Raises Invalid."""
    name = parameters.get(OWNER)
    if name is not None and not isinstance(name, str):
        raise Invalid.of({OWNER: "an access key"})
    request.scope["state"][OWNER] = name
