"""Another configuration for an api that is at work.

The warden has read and checked the file, and kept what only a restart changes; here every part
that has something of the configuration is given the new one. Sessions and runs that exist keep
what they were given. The table of runtimes is made anew, so a tool that was installed meanwhile
is seen.
"""

from __future__ import annotations

import asyncio
from typing import Any

from .. import config_file, log, runtimes
from .http.connections import Connections
from .state import AppState


async def apply(state: AppState, connections: Connections, table: dict[str, Any]) -> None:
    """Take on the configuration `table`, which the warden has sent."""
    new = config_file.from_table(table)
    found = await asyncio.to_thread(runtimes.load, new)
    log.setup(new.log, new.log_level, "api")
    state.config = state.door.config = new
    state.health.config = new
    state.tokens.life_s = new.folders.token_s
    state.bodies.most = new.http.bodies
    connections.http = new.http
    state.runtimes = found
    state.sessions.admission.renew(new)
    log.event("config.in-use")
