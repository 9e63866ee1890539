"""For whom a route acts. The one place that says so; every guarded route goes through it.

A caller acts for itself. An admin may act for another owner, named as owner_access_key in the
query or in a JSON body. An owner is an access key, or "local"; it need not exist any more, so
that an admin can tidy up after a deleted keypair, but nothing new is made for such a one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import HTTPConnection

from ...errors import AuthFailed, Forbidden, Invalid, NotFound
from ..telemetry.audit_log import annotate
from .authentication import LOCAL, Authenticator, Caller

OWNER = "owner_access_key"


def caller(request: HTTPConnection) -> Caller:
    """Who has sent the request. Raises AuthFailed on a route that is open to everybody."""
    found = request.scope["state"].get("caller")
    if not isinstance(found, Caller):
        raise AuthFailed("Unauthorized access")
    return found


def owner(request: HTTPConnection) -> str:
    """The owner that this request acts for. Raises Forbidden when that is not the caller's to
    choose."""
    asking = caller(request)
    named = request.query_params.get(OWNER) or request.scope["state"].get(OWNER) or asking.name
    if named != asking.name and not asking.is_admin:
        raise Forbidden("only admins can act for another owner")
    annotate(request, owner=str(named))
    return str(named)


def by_admin(request: HTTPConnection) -> None:
    """For routes that are about the daemon itself. Raises Forbidden."""
    if not caller(request).is_admin:
        raise Forbidden("only admins can do this")


async def maker(request: HTTPConnection) -> str:
    """The owner of what this request makes. Raises NotFound for one without a keypair."""
    named = owner(request)
    door: Authenticator = request.app.state.sandboxd.door
    if named not in (caller(request).name, LOCAL.name) and not await door.keys.find(named):
        raise NotFound("keypair", f"there is no active keypair {named}")
    return named


def name_owner(request: HTTPConnection, parameters: Mapping[str, Any]) -> None:
    """Note the owner that a request's body or query names, for `owner`. Raises Invalid."""
    named = parameters.get(OWNER)
    if named is not None and not isinstance(named, str):
        raise Invalid("Input validation error", {OWNER: "an access key"})
    request.scope["state"][OWNER] = named
