"""The warden's loop: answers the api, waits for shims and helpers, ends at SIGTERM.

One thread and one selector. What takes its time is not waited for: a release kills the slot's
processes, is remembered, and is answered when the last of them is gone, its cgroup as well, and a
chore (chores.py) has emptied the slot. If the api ends, the warden does too, and the service
manager starts both again.

Runs do not end with the daemon, whichever way it ends: their shims go on, and the next warden
adopts them. Those that it has started itself are its children; the adopted ones are known by a
pidfd (pidfd_open(2)), which becomes readable when they end.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from .. import log, wire
from ..config import Config
from ..config_file import renewed
from ..errors import Invalid, SandboxdError, StageError, Unavailable
from ..jail.cgroup import Group
from ..systemd import Notify
from . import proof
from .chores import Chores
from .held import Held
from .ledger import Known, Lease
from .proof import Left
from .requests import Requests, Started
from .slots import Slot
from .sweep import Host, Sweep
from .vitals import vitals

RETRY_S = 0.02
"""Between two tries to remove a cgroup whose last process the kernel still takes apart."""

STUCK_S = 5.0
"""Between two tries to empty a slot in which something was left: often only a dead process, which
the host's first process had not collected yet."""

_UNKNOWN = Left(["what, is not known: the chore has failed"], [])

ERROR_MAX = 2000
"""Characters of an error that is told: it may quote what was asked for, and must fit a packet."""

GRACE_S = 5.0
"""What the api has to answer its last requests."""


class Server:
    """Serves one api, `api_pid`, on `sock`, until either ends."""

    def __init__(
        self,
        requests: Requests,
        sock: socket.socket,
        api_pid: int,
        ready: Callable[[], None],
        notify: Notify,
        read_again: Callable[[], Config],
    ) -> None:
        self.requests = requests
        self.sock = sock
        self.api_pid = api_pid
        self.ready = ready
        self.notify = notify
        self.read_again = read_again
        self.children: dict[int, Started] = {}
        self.adopted: dict[int, Started] = {}  # by pidfd
        self.removing: list[Started] = []
        self.releasing: dict[int, list[int]] = {}  # slot -> ids of the requests to answer
        self.stopping = False
        self.held = Held(_kill)
        self.emptying: set[int] = set()  # slots with a chore that empties them
        self.retry_at = 0.0
        self.chores = Chores()
        host = Host(
            requests.config.state_dir, self._known, self._groups, requests.slots.hold,
            lambda: frozenset(requests.slots.stuck), self._retry,
        )  # fmt: skip
        self.sweep = Sweep(host, self.chores)
        self.selector = selectors.DefaultSelector()

    def serve(self) -> int:
        """Run until the end; the exit status of the daemon."""
        wake, woken = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop())
        hung_up: list[int] = []
        signal.signal(signal.SIGHUP, lambda number, _: hung_up.append(number))
        self.selector.register(wake, selectors.EVENT_READ, lambda: os.read(wake, 4096))
        self.selector.register(self.sock, selectors.EVENT_READ, self._request)
        status = None
        while status is None:
            timeout = RETRY_S if self.removing else self._retry_in()
            for key, _ in self.selector.select(timeout):
                key.data()
            if hung_up:
                hung_up.clear()
                self._reload()
            status = self._collect()
            self._remove_groups()
            if self._retry_in() == 0:
                self._retry()
        self._end()
        return status

    def _stop(self) -> None:
        """SIGTERM: the api finishes what it is answering, or all that runs, and ends; we follow.
        A second one is for the api, too, which then does not wait."""
        if not self.stopping:
            self.stopping = True
            stop = self.requests.config.stop
            self.notify.stopping("stopping", stop.grace_s if stop.runs == "drain" else 0)
        os.kill(self.api_pid, signal.SIGTERM)

    def _reload(self) -> None:
        """SIGHUP: read the configuration again, and keep the old one if the new one is bad."""
        self.notify.reloading()
        try:
            new, changed, late = renewed(self.requests.config, self.read_again())
            wire.encode({"config": asdict(new)})  # it fits
            self.requests.renew(new)
        except (SandboxdError, OSError) as error:
            log.event("config.refused", logging.ERROR, reason=str(error))
        else:
            with contextlib.suppress(OSError):  # the api has ended; that is seen elsewhere
                wire.send(self.sock, {"config": asdict(new)})
            log.setup(new.log, new.log_level, "warden")
            log.event("config.read", changed=" ".join(changed) or "nothing")
            if late:
                log.event("config.late", logging.WARNING, after_restart=" ".join(late))
        self.notify.ready(self._status())

    def _status(self) -> str:
        """What there is, for `systemctl status`."""
        leased = self.requests.slots.leased.values()
        return f"{len(leased)} sessions, {sum(len(slot.runs) for slot in leased)} runs"

    # -- requests

    def _request(self) -> None:
        try:
            request, fds = wire.receive(self.sock)
        except wire.Starved as error:
            self._answer(error.message.get("id", 0), _refusal(Unavailable(str(error))))
            return
        except (OSError, wire.WireError) as error:
            log.event("api.nonsense", logging.ERROR, error=str(error))
            request, fds = None, []
        if request is None:  # the api has closed its end; its exit status comes by _collect
            self.selector.unregister(self.sock)
            return
        number = request.get("id")
        if type(number) is not int:
            number = 0
        try:
            answer, back = self._act(request, fds)
        except SandboxdError as error:
            self._answer(number, _refusal(error))
        except OSError as error:  # no descriptor, no memory, no disk: for this request, not for us
            self._answer(number, _refusal(StageError.of("warden", error)))
        else:
            if answer is not None:
                self._answer(number, {"ok": True} | answer, back)
        finally:
            wire.close_all(fds)

    def _act(
        self, request: dict[str, Any], fds: list[int]
    ) -> tuple[dict[str, Any] | None, list[int]]:
        """Do what is asked: fields of the answer, None when it comes later, and descriptors."""
        match request.get("op"):
            case "ready":
                for path in self.requests.forget_strays():
                    log.event("slot.removed", logging.WARNING, path=path, reason="no session")
                self.ready()
                self.notify.ready(self._status())
                return {}, []
            case "ping":
                self.notify.alive(self._status())
                self.requests.look_at_room()
                busy = {"children": len(self.children), "releasing": len(self.releasing)}
                return {"vitals": vitals() | busy}, []
            case "sweep":
                id = request.get("id", 0)
                self.sweep.ask(functools.partial(self._swept, id))
                return None, []
            case "lease":
                return {"slot": self.requests.lease(request).number}, []
            case "adopt":
                return self._adopt(request), []
            case "start":
                slot = self._busy_check(request)
                started, back = self.requests.start(request, fds[0] if fds else None)
                self.children[started.pid] = started
                slot.runs[started.run or 0] = started.pid
                return {}, back
            case "follow":
                self._busy_check(request)
                back = self.requests.follow(request)
                return {"there": bool(back)}, back
            case "forget":
                self.requests.forget(request)
                return {}, []
            case "files":
                self._busy_check(request)
                return {}, self._helping(*self.requests.files(request))
            case "folder_make":
                self.requests.folder_make(request)
                return {}, []
            case "folder_files":
                return {}, self._helping(*self.requests.folder_files(request))
            case "folder_remove":
                self.requests.folder_remove(request)
                return {}, []
            case "release":
                self._release(self.requests.leased(request), request.get("id", 0))
                return None, []
        raise Invalid(f"unknown request {request.get('op')!r}")

    def _adopt(self, request: dict[str, Any]) -> dict[str, Any]:
        found, error = self.requests.adopt(request)
        for started in found:
            assert started.pidfd is not None
            self.adopted[started.pidfd] = started
            end = functools.partial(self._adopted_ended, started)
            self.selector.register(started.pidfd, selectors.EVENT_READ, end)
        if error:
            raise error
        return {}

    def _helping(self, started: Started, fd: int) -> list[int]:
        self.children[started.pid] = started
        return [fd]

    def _busy_check(self, request: dict[str, Any]) -> Slot:
        slot = self.requests.leased(request)
        if slot.number in self.releasing:
            raise Unavailable(f"slot {slot.number} is being released")
        return slot

    def _answer(self, number: Any, answer: dict[str, Any], fds: list[int] | None = None) -> None:
        try:
            wire.send(self.sock, {"id": number} | answer, fds)
        except OSError:
            pass  # the api has ended; that is seen elsewhere
        finally:
            wire.close_all(fds or [])

    # -- ends

    def _release(self, slot: Slot, request: int) -> None:
        """Kill all that works for `slot`; its answer comes when the last of it is gone."""
        self.releasing.setdefault(slot.number, []).append(request)
        for started in self._working():
            if started.slot is slot:
                _kill(started)
        self._finish_releases()

    def _working(self) -> list[Started]:
        """Every shim and helper."""
        return [*self.children.values(), *self.adopted.values()]

    def _adopted_ended(self, started: Started) -> None:
        assert started.pidfd is not None
        self.selector.unregister(started.pidfd)
        del self.adopted[started.pidfd]
        os.close(started.pidfd)
        self._ended(started)

    def _ended(self, started: Started) -> None:
        """A shim or helper is gone; so is everything that it had."""
        if started.slot and started.group:
            started.group.kill()
            self.removing.append(started)
            self.requests.ended(started.slot, started.run or 0)
        self._finish_releases()

    def _collect(self) -> int | None:
        """Collect children that have ended; the daemon's exit status when one is the api."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return 1
            if pid == 0:
                return None
            if pid == self.api_pid:
                code = os.waitstatus_to_exitcode(status)
                if self.stopping:
                    return 0
                log.event("api.ended", logging.ERROR, exit=code)
                return 1
            if self.chores.collected(pid, status):
                continue
            if started := self.children.pop(pid, None):
                self._ended(started)

    def _remove_groups(self) -> None:
        """Remove the cgroups of runs that are over; those still busy are tried again."""
        if not self.removing:
            return
        left, working = [], self._working()
        for started in self.removing:
            assert started.group
            try:
                gone = self.held.may_go(started, working) and started.group.remove()
            except OSError:  # no descriptor is left, say; it is tried again
                gone = False
            if gone:
                self.requests.hierarchy.tidy(started.group)
            else:
                left.append(started)
        self.removing = left
        self._finish_releases()

    def _finish_releases(self) -> None:
        for number in list(self.releasing):
            slot = self.requests.slots.leased.get(number)  # None: it is being emptied already
            if slot is None or any(one.slot is slot for one in (*self._working(), *self.removing)):
                continue
            try:
                kept = self.requests.vacate(slot)
            except StageError as error:
                self._released(slot, error)
            else:
                self._empty(slot, kept)

    def _empty(self, slot: Slot, kept: list[int]) -> None:
        """Have everything of a slot removed, in a chore."""
        self.emptying.add(slot.number)
        state = self.requests.config.state_dir
        try:
            self.chores.begin(
                f"empty slot {slot.number}",
                lambda: asdict(proof.empty(state, slot.number, slot.uid, kept)),
                lambda left: self._emptied(slot, Left(**left) if left else _UNKNOWN),
                [*kept, slot.lock.fileno()],
            )
        except StageError as error:  # no process can be made
            self._emptied(slot, Left([str(error)], []))
        finally:
            wire.close_all(kept)

    def _emptied(self, slot: Slot, left: Left) -> None:
        self.emptying.discard(slot.number)
        again = slot.number in self.requests.slots.stuck
        try:
            self.requests.emptied(slot, left)
        except StageError as error:
            if not again:
                log.event("slot.stuck", logging.ERROR, slot=slot.number, error=error.message)
            self._released(slot, error)
        else:
            self._released(slot, None)

    def _released(self, slot: Slot, error: StageError | None) -> None:
        """Answer who wanted it."""
        for request in self.releasing.pop(slot.number, []):
            self._answer(request, _refusal(error) if error else {"ok": True})

    # -- sweeps

    def _swept(self, id: int, report: int | None) -> None:
        """Answer with a sweep's report, a descriptor that is not ours to close."""
        try:
            copy = None if report is None else os.dup(report)
        except OSError:
            copy = None
        if copy is None:
            self._answer(id, _refusal(Unavailable("no descriptor is left for the report")))
        else:
            self._answer(id, {"ok": True}, [copy])

    def _known(self) -> Known:
        """What is right at this moment, for the ledger."""
        slots, folders = self.requests.slots, self.requests.folders
        working = self._working()
        leases = {
            number: Lease(
                number,
                slot.session,
                frozenset(one.pid for one in working if one.slot is slot),
                frozenset(f"{number}.{run}" for run in slot.runs),
            )
            for number, slot in slots.leased.items()
        }
        config = self.requests.config.slots
        helping = any(one.slot is None for one in working)
        return Known(
            config.first_uid,
            config.count,
            leases,
            frozenset(slots.emptying) - slots.stuck,
            frozenset(f"{s.slot.number}.{s.run}" for s in self.removing if s.slot),
            None if helping else folders.mounted,
        )

    def _groups(self) -> dict[str, Group]:
        """The groups of all runs, by name: those that there are, and, of runs that an earlier
        daemon has started in another place, those that are known."""
        known = {one.group.name: one.group for one in self._working() if one.group}
        return self.requests.groups() | known

    def _retry_in(self) -> float | None:
        """Seconds until slots that could not be emptied are tried again; None: there are none."""
        if not self.requests.slots.stuck - self.emptying:
            return None
        return max(0.0, self.retry_at - time.monotonic())

    def _retry(self) -> None:
        """Try once more to empty the slots that could not be emptied."""
        self.retry_at = time.monotonic() + STUCK_S
        for number in sorted(self.requests.slots.stuck - self.emptying):
            self._empty(self.requests.slots.emptying[number], [])

    def _end(self) -> None:
        """Collect what ends with the daemon, helpers and terminals, unmount every scratch. Runs
        go on, for the next daemon to find, unless they are tied to this one."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for started in self._working():
            if started.run is None or self.requests.tied:
                _kill(started)
        deadline = time.monotonic() + GRACE_S
        while (self._ending() or len(self.chores)) and time.monotonic() < deadline:
            self._collect()
            self._remove_groups()
            time.sleep(RETRY_S / 4)
        for slot in self.requests.slots.leased.values():
            try:
                wire.close_all(self.requests.folders.take_back(slot))
                self.requests.scratch.unmount(slot.path)
            except StageError as error:
                log.event("unmount", logging.ERROR, slot=slot.number, error=str(error))

    def _ending(self) -> bool:
        """Something is still there that ends with the daemon."""
        return bool(self.removing) or any(
            started.run is None or started.terminal or self.requests.tied
            for started in self.children.values()
        )


def _kill(started: Started) -> None:
    """End a shim or helper. A shim's init dies with it, and the run with its init."""
    try:
        if started.pidfd is None:
            os.kill(started.pid, signal.SIGKILL)
        else:
            signal.pidfd_send_signal(started.pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass
    if started.group:
        started.group.kill()


def _refusal(error: SandboxdError) -> dict[str, Any]:
    """An error as the fields of an answer."""
    if isinstance(error, StageError):
        fields = {"kind": "stage", "stage": error.stage, "errno": error.errno}
        return {"ok": False, "error": error.message[:ERROR_MAX]} | fields
    kind = "invalid" if isinstance(error, Invalid) else "unavailable"
    return {"ok": False, "error": str(error)[:ERROR_MAX], "kind": kind}
