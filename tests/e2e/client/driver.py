"""`python driver.py OUT`: run every flow of flows.py and streams.py, in one process.

It runs in the client's own environment. OUT gets the outcome of each flow as JSON, by name: null,
or what went wrong.
"""

from __future__ import annotations

import asyncio
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import flows  # type: ignore[import-not-found]  # in the client's environment
import streams  # type: ignore[import-not-found]  # in the client's environment
from ai.backend.client.session import AsyncSession, Session  # type: ignore[import-not-found]  # in the client's environment

LONGEST_S = 30


def main(out: str) -> None:
    """Run them all."""
    outcomes = {}
    for name, flow in flows_of(flows):
        outcomes[name] = outcome(synchronous, flow)
    for name, flow in flows_of(streams):
        outcomes[name] = outcome(asynchronous, flow)
    Path(out).write_text(json.dumps(outcomes))


def flows_of(module: ModuleType) -> list[tuple[str, Any]]:
    """Names and flows of a module."""
    return [(name, flow) for name, flow in vars(module).items() if name.startswith("flow_")]


def outcome(way: Callable[[Any], None], flow: Any) -> str | None:
    """The traceback of a flow that failed; None: the flow passed."""
    try:
        way(flow)
    except Exception:  # each flow is a test of its own
        return traceback.format_exc()
    return None


def synchronous(flow: Any) -> None:
    """One flow of flows.py."""
    with Session() as api:
        flow(api)


def asynchronous(flow: Any) -> None:
    """One flow of streams.py."""

    async def go() -> None:
        async with asyncio.timeout(LONGEST_S), AsyncSession() as api:
            await flow(api)

    asyncio.run(go())


if __name__ == "__main__":
    main(*sys.argv[1:])
