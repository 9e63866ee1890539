"""The reload of the configuration at SIGHUP. A configuration with an error changes nothing."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable
from dataclasses import asdict

from .. import log, wire
from ..config import Config
from ..config_file import renewed
from ..errors import SandboxdError
from .shared_resources import Resources


def reload(resources: Resources, read_again: Callable[[], Config], sock: socket.socket) -> None:
    """Use the configuration that `read_again` reads, and send it to the api on `sock`."""
    try:
        config, changed, after_restart = renewed(resources.config, read_again())
        message = {"config": asdict(config)}
        wire.encode(message)  # raises when it does not fit a packet
        resources.renew(config)
    except (SandboxdError, OSError) as error:
        log.event("config.refused", logging.ERROR, reason=str(error))
        return
    # The api may have ended: the loop sees that by its exit status.
    with contextlib.suppress(OSError):
        wire.send(sock, message)
    log.setup(config.log, config.log_level, "warden")
    log.event("config.read", changed=" ".join(changed) or "nothing")
    if after_restart:
        log.event("config.late", logging.WARNING, after_restart=" ".join(after_restart))
