"""A slot that the warden has leased to a session, and the moment from which the lease lasts."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

from ...errors import StageError
from ...wire import messages


@dataclass(frozen=True, slots=True)
class LeasedSlot:
    """A slot that is leased to a session. `names` are descriptors of a file that has the name of
    the session and may not be on the disk yet; `flush` or `close` ends them."""

    number: int
    names: list[int]

    async def flush(self) -> None:
        """Have the lease survive a restart of the host. Raises StageError."""
        try:
            for fd in self.names:
                await asyncio.to_thread(os.fdatasync, fd)
        except OSError as error:
            raise StageError.of("lease", error) from None
        finally:
            self.close()

    def close(self) -> None:
        """The lease of a session that does not survive the daemon."""
        messages.close_all(self.names)
