"""What a shim is to do, as the warden tells it when it forks one."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from ..config import ConsoleConfig
from ..jail.enter import Jail
from ..jail.mounts import FolderMount
from ..model import Step


@dataclass(frozen=True, slots=True)
class RunSpec:
    """Everything a shim is told. Descriptors are its own.

    lease     holds the slot's uid until the shim itself has it
    stdin     exec's standard input; None for a pipe
    terminal  exec has one instead, and `stdin` is the socket to its user
    tied      the run ends with its warden
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
    shell: str
    steps: tuple[Step, ...]
    environ: dict[str, str]
    keep: ConsoleConfig
    tied: bool
