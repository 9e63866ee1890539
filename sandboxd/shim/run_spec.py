"""The specification of a run: all values that the warden passes to the shim that it forks."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from ..config import ConsoleConfig
from ..jail.enter import Jail
from ..jail.mounts import FolderMount
from ..model import Step


@dataclass(frozen=True, slots=True)
class RunSpec:
    """The values of one run. The descriptors are the shim's own.

    lease        the lock on the slot; it keeps the slot's uid reserved while the shim still is root
    stdin        standard input of exec; None: a pipe
    terminal     exec has a terminal instead, and `stdin` is the socket to its user
    interactive  standard input and output of exec are a terminal, whose user types through the api
    tied         the run ends with its warden
    """

    slot: int
    run: int
    uid: int
    gid: int
    jail: Jail
    workdir: int
    tmp: int
    folders: tuple[FolderMount, ...]
    console: int
    journal: int
    listener: socket.socket
    lease: int
    stdin: int | None
    terminal: bool
    interactive: bool
    shell: str
    steps: tuple[Step, ...]
    environ: dict[str, str]
    bounds: ConsoleConfig
    tied: bool
