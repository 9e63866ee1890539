"""The start of the api: the values that the warden hands to it. It imports no third-party code.

The warden makes them as root. The api has them after it has given root up (server.py).
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

from ..config.settings import Config
from ..host.tasks import TaskMeter
from ..model import Guarantee


@dataclass(frozen=True, slots=True)
class ApiStart:
    """The values with which an api starts.

    warden      its end of the socket between the halves
    listeners   the sockets of the API
    database    the path of the SQLite file
    monitor     the socket for metrics and health
    guarantees  the results of the probes of this host
    meter       reads the bounds of the host on tasks
    """

    config: Config
    warden: socket.socket
    listeners: list[socket.socket]
    database: str
    monitor: socket.socket | None = None
    guarantees: tuple[Guarantee, ...] = ()
    meter: TaskMeter | None = None
