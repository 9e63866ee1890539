"""The reload of the configuration at SIGHUP. A configuration with an error changes nothing."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable
from dataclasses import asdict

from .. import log
from ..config.settings import Config
from ..config.toml_file import renewed
from ..errors import SandboxdError
from ..wire import messages
from .shared_resources import Resources


def reload(resources: Resources, read_again: Callable[[], Config], sock: socket.socket) -> None:
    """Use the configuration that `read_again` reads, and send it to the api on `sock`."""
    try:
        config, changed, after_restart = renewed(resources.config, read_again())
        message = {"config": asdict(config)}
        messages.encode(message)  # raises when it does not fit a packet
        resources.renew(config)
    except (SandboxdError, OSError) as error:
        log.event("config.refused", logging.ERROR, reason=str(error))
        return
    # The api may have ended: the loop sees that by its exit status.
    with contextlib.suppress(OSError):
        messages.send(sock, message)
    log.setup(config.log, config.log_level, "warden")
    log.event("config.read", changed=" ".join(changed) or "nothing")
    if after_restart:
        log.event("config.late", logging.WARNING, after_restart=" ".join(after_restart))
