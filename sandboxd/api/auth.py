"""Who asks. The one place that says so; every route goes through it."""

from __future__ import annotations

from starlette.requests import Request


def owner(_: Request) -> str:
    """The owner that this request acts for.

    Without keypairs whoever can reach a listener is the same one: the sockets' permissions
    are the door.
    """
    return "default"
