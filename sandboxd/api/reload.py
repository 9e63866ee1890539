"""The reload of the configuration in the running api.

The warden has read and checked the file, and has kept the values that only a restart can change.
Here every part that holds some of the configuration gets the new one. Existing sessions and runs
keep what they were granted. The table of runtimes is built again, so a tool that was installed
since the start is found.
"""

from __future__ import annotations

import asyncio
from typing import Any

from .. import log, runtimes
from ..config import toml_file
from .http.connections import Connections
from .state import AppState


async def apply(state: AppState, connections: Connections, table: dict[str, Any]) -> None:
    """Put the configuration `table`, as the warden sends it, in force."""
    new = toml_file.from_table(table)
    new_runtimes = await asyncio.to_thread(runtimes.load, new)
    log.setup(new.log, new.log_level, "api")
    state.config = state.authenticator.config = new
    state.health.config = new
    state.leaks.renew(new.sweep_s)
    state.tokens.life_s = new.folders.token_s
    state.bodies.most = new.http.bodies
    connections.http = new.http
    state.runtimes = new_runtimes
    state.sessions.admission.renew(new)
    log.event("config.in-use")
