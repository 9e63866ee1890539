"""An entry to the jail, seen from the warden: a shim with its init, and the socket to the shim.

    preparing  somebody has been asked to fork it
    prepared   it waits for the order of a run, and has seen no session
    ordered    it has been sent an order
    claimed    it has acknowledged the order: it is the worker of that run
    warm       the run is over, and it waits for the next order of the same session
    gone       it has ended, or is not wanted any more, and ends when it sees that

TRANSITIONS has the changes that are possible. The messages are in shim/main.py and shim/warm.py. A
shim that has run programs beside itself is not trusted: of its messages only the kind counts.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from dataclasses import dataclass
from typing import Any, Literal

from ...host import pidfds
from ...host.descriptors import readable
from ...jail.cgroup import Group
from ...shim.run_spec import ORDER
from ...wire import messages
from ..slots.slots import Slot

State = Literal["preparing", "prepared", "ordered", "claimed", "warm", "gone"]

TRANSITIONS: dict[State, tuple[State, ...]] = {
    "preparing": ("prepared", "ordered", "gone"),
    "prepared": ("ordered", "gone"),
    "ordered": ("claimed", "gone"),
    "claimed": ("warm", "gone"),
    "warm": ("ordered", "gone"),
    "gone": (),
}

ACK_S = 1.0
"""How long the warden waits for an acknowledgement. It takes a tenth of a millisecond."""

END_S = 2.0
"""How long an entry may take to its end."""

BUFFER = 2 * ORDER


@dataclass(frozen=True, slots=True)
class Shim:
    """The process that has taken an order. `pidfd` is None for a child of the warden."""

    pid: int
    pidfd: int | None = None


@dataclass(frozen=True, slots=True)
class Tenancy:
    """The properties of the run that an entry serves; the next run needs the same ones.

    jail    the parts that all runs have in common
    limits  the limits that an init cannot raise
    """

    slot: Slot
    group: Group
    jail: object
    runtime: str
    limits: tuple[float, ...]

    def suits(self, other: Tenancy) -> bool:
        """The next run may have the jail of this one. Only their groups differ."""
        same = self.slot is other.slot and self.jail is other.jail
        return same and (self.runtime, self.limits) == (other.runtime, other.limits)


class JailEntry:
    """One entry.

    sock     the warden's end of its socket
    end      the other end, until the entry has it
    begun    the monotonic time at which its making began
    since    the same of its last change of state: at which it became warm
    child    its pid, when it is a child of the warden
    shim     its process, since it is claimed; its worker owns the pidfd
    tenancy  the run that it serves, or has served last
    """

    def __init__(self) -> None:
        self.sock, self.end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        self.state: State = "preparing"
        self.begun = self.since = time.monotonic()
        self.child: int | None = None
        self.shim: Shim | None = None
        self.tenancy: Tenancy | None = None
        self._process: tuple[int, int] | None = None  # pid and pidfd, before it is claimed

    def become(self, state: State) -> None:
        """Change the state."""
        assert state in TRANSITIONS[self.state], f"{self.state} -> {state}"
        self.state = state

    def receive(self) -> bool:
        """Take in a message of the entry, if there is one; False when the entry has ended, or when
        no message of that kind can come now."""
        try:
            message, fds = messages.receive(self.sock)
        except BlockingIOError:
            return True
        except messages.Starved as error:
            message, fds = error.message, []
        except (OSError, messages.WireError):
            return False
        kind = next(iter(message), "") if message else ""
        if self.shim is None:
            if len(fds) == 1:
                self._close_process()
                self._process = messages.number(message or {}, kind), fds[0]
            else:
                messages.close_all(fds)
            return self._receive_first(kind)
        messages.close_all(fds)
        if (self.state, kind) not in (("claimed", "warm"), ("ordered", "claimed")):
            return False
        self.become("warm" if kind == "warm" else "claimed")
        self.since = time.monotonic()
        return self.shim is not None

    def _receive_first(self, kind: str) -> bool:
        """Take in a message of an entry that has seen no session. Where this process could open no
        pidfd for the acknowledgement, it has the one of an entry that was prepared."""
        if kind == "prepared" and self.state == "preparing" and self._process:
            self.become("prepared")
        elif kind == "claimed" and self.state == "ordered" and self.child is not None:
            self._close_process()
            self.become("claimed")
            self.shim = Shim(self.child)
        elif kind == "claimed" and self.state == "ordered" and self._process:
            self.become("claimed")
            self.shim, self._process = Shim(*self._process), None
        else:
            return False
        return True

    def order(self, message: dict[str, Any], fds: list[int]) -> None:
        """Send the order of a run. Raises OSError when the entry has ended."""
        messages.send(self.sock, message, fds, ORDER)
        self.become("ordered")

    def acknowledged(self) -> Shim | None:
        """Wait for the acknowledgement; the process that has given it, or None for silence. Then
        the entry can give none any more, and is gone."""
        deadline = time.monotonic() + ACK_S
        lives = True
        while lives and self.state == "ordered" and (left := deadline - time.monotonic()) > 0:
            readable(self.sock.fileno(), wait_s=left)
            lives = self.receive()
        if self.state == "ordered":
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_RD)
            while self.state == "ordered" and self.receive():
                pass  # one that came just before counts
        if self.state == "claimed":
            return self.shim
        if self.shim is None:  # it may have begun, if this process did not understand what it said
            self.kill()
        else:
            self._revoke(self.shim)
        return None

    def drop(self) -> None:
        """Let the entry go. It ends, but for a run that goes on."""
        if self.state != "gone":
            self.become("gone")
        self.sock.close()
        self.end.close()
        self._close_process()

    def finish(self) -> None:
        """Let the entry, which has seen no session, go, and wait until it has ended."""
        process, self._process = self._process, None
        self.drop()
        if process:
            if not pidfds.await_ends([process[1]], END_S):
                pidfds.send(process[1])
            os.close(process[1])

    def kill(self) -> None:
        """Let the entry go and end its process, which has no other owner, whatever it does."""
        process, self._process = self._process, None
        if self.shim and self.shim.pidfd is not None:
            process = self.shim.pid, self.shim.pidfd
        self.drop()
        if process is None and self.child:  # not collected: it is still the same one
            process = self.child, os.pidfd_open(self.child)
        if process:
            pidfds.send(process[1])
            pidfds.await_ends([process[1]], END_S)
            os.close(process[1])

    def _revoke(self, shim: Shim) -> None:
        """Let a warm entry go and end its process, which has a worker. As long as it lived, an
        order that it has not taken would keep the files of the run open: who follows the run in
        another entry would not see its end."""
        self.drop()
        if shim.pidfd is None:
            os.kill(shim.pid, signal.SIGKILL)  # a child whose end nobody has collected yet
        else:
            pidfds.send(shim.pidfd)

    def _close_process(self) -> None:
        if self._process:
            os.close(self._process[1])
            self._process = None
