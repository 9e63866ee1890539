"""GET /admin/guarantees: what the host was found to guarantee when the daemon started.

For admins: how a host falls short, and of what, is nobody else's to know in detail. Owners of
sessions see the names in the session's description.
"""

from __future__ import annotations

from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import Response

from ...errors import Forbidden
from ..access.ownership import caller
from ..http.responses import JsonResponse
from ..state import state


async def guarantees(request: Request) -> Response:
    """All of them, as `sandboxd doctor --json` lists them. Raises Forbidden."""
    if not caller(request).is_admin:
        raise Forbidden("only admins can see what this host guarantees")
    return JsonResponse({"guarantees": [asdict(one) for one in state(request).guarantees]})
