"""Background jobs of a warden without a loop."""

from __future__ import annotations

import os

from sandboxd.warden.background import BackgroundJobs

from .waiting import Patience


class LooplessJobs(BackgroundJobs):
    """Those that a test begins and collects itself."""

    @property
    def pids(self) -> list[int]:
        """The children that are at work."""
        return list(self._running)

    def finish(self) -> None:
        """Do and collect jobs until none is left."""
        patience = Patience("a job does not end")
        while len(self):
            self.begin_due(now=True)
            for pid in self.pids:
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    self.collected(pid, status)
            patience.pause(0.005)
