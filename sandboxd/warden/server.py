"""The warden's loop: answers the api, waits for shims and helpers, ends at SIGTERM.

One thread and one selector. What takes its time is not waited for: a release kills the slot's
processes, is remembered, and is answered when the last of them is gone, its cgroup as well, and a
chore has emptied the slot (releases.py). If the api ends, the warden does too, and the service
manager starts both again.

Runs do not end with the daemon, whichever way it ends: their shims go on, and the next warden
adopts them (working.py).
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
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .. import crash, log, wire
from ..config import Config
from ..config_file import renewed
from ..errors import Invalid, SandboxdError, StageError, Unavailable
from ..systemd import Notify
from .chores import Chores
from .making import Making
from .releases import Releases
from .requests import Requests, Started
from .slots import Slot
from .sweep import Host, Sweep
from .vitals import vitals
from .working import Working, kill

RETRY_S = 0.02
"""Between two tries to remove a cgroup whose last process the kernel still takes apart."""

ERROR_MAX = 2000
"""Characters of an error that is told: it may quote what was asked for, and must fit a packet."""

GRACE_S = 5.0
"""What the api has to answer its last requests."""


@dataclass(frozen=True, slots=True)
class Api:
    """The unprivileged half, as the warden knows it: its process, the socket to it, the pipe for
    its trace."""

    pid: int
    sock: socket.socket
    trace: crash.TracePipe


class Server:
    """Serves one `api`, until either ends."""

    def __init__(
        self,
        requests: Requests,
        api: Api,
        ready: Callable[[], None],
        notify: Notify,
        read_again: Callable[[], Config],
    ) -> None:
        self.requests = requests
        self.api = api
        self.sock = api.sock
        self.ready = ready
        self.notify = notify
        self.read_again = read_again
        self.stopping = False
        self.chores = Chores()
        self.selector = selectors.DefaultSelector()
        self.working = Working(requests, self.selector, lambda: self.releases.go_on())
        self.releases = Releases(requests, self.chores, self.working.is_busy, self._released)
        self.making = Making(requests, self.chores, self._made, self._release)
        host = Host(
            requests.config.state_dir, self.working.known, self.working.groups, requests.slots.hold,
            lambda: frozenset(requests.slots.stuck), self.releases.retry,
        )  # fmt: skip
        self.sweep = Sweep(host, self.chores)

    def serve(self, told_to_stop: Sequence[int] = ()) -> int:
        """Run until the end; the exit status of the daemon. `told_to_stop` are the SIGTERMs that
        came before."""
        wake, woken = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop())
        if told_to_stop:
            self._stop()
        hung_up: list[int] = []
        signal.signal(signal.SIGHUP, lambda number, _: hung_up.append(number))
        self.selector.register(wake, selectors.EVENT_READ, lambda: os.read(wake, 4096))
        self.selector.register(self.sock, selectors.EVENT_READ, self._request)
        status = None
        while status is None:
            timeout = RETRY_S if self.working.removing else self.releases.retry_in()
            for key, _ in self.selector.select(timeout):
                key.data()
            if hung_up:
                hung_up.clear()
                self._reload()
            status = self._collect()
            self.working.remove_groups()
            if self.releases.retry_in() == 0:
                self.releases.retry()
        self._end()
        return status

    def _stop(self) -> None:
        """SIGTERM: the api finishes what it is answering, or all that runs, and ends; we follow.
        A second one is for the api, too, which then does not wait."""
        if not self.stopping:
            self.stopping = True
            stop = self.requests.config.stop
            self.notify.stopping("stopping", stop.grace_s if stop.runs == "drain" else 0)
        os.kill(self.api.pid, signal.SIGTERM)

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
                busy = {"children": len(self.working.children), "releasing": len(self.releases)}
                return {"vitals": vitals() | busy}, []
            case "sweep":
                id = request.get("id", 0)
                self.sweep.ask(functools.partial(self._swept, id))
                return None, []
            case "lease":
                self.making.slot(request, request.get("id", 0))
                return None, []
            case "adopt":
                return self._adopt(request), []
            case "start":
                slot = self._busy_check(request)
                started, back = self.requests.start(request, fds[0] if fds else None)
                self.working.add(started)
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
                self.making.folder(request, request.get("id", 0))
                return None, []
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
            self.working.adopt(started)
        if error:
            raise error
        return {}

    def _helping(self, started: Started, fd: int) -> list[int]:
        self.working.add(started)
        return [fd]

    def _busy_check(self, request: dict[str, Any]) -> Slot:
        slot = self.requests.leased(request)
        if slot.number in self.releases:
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
        self.releases.ask(slot, request)
        self.working.kill(slot)
        self.releases.go_on()

    def _collect(self) -> int | None:
        """Collect children that have ended; the daemon's exit status when one is the api."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return 1
            if pid == 0:
                return None
            code = os.waitstatus_to_exitcode(status)
            if pid == self.api.pid:
                return self._api_ended(code)
            if not self.chores.collected(pid, status):
                self.working.collected(pid, code)

    def _api_ended(self, code: int) -> int:
        """The daemon's exit status; the log has why the api has ended, if nobody told it to."""
        fault = crash.fault(code)
        if fault:
            for part in self.api.trace.read():
                log.event("api.crashed", logging.ERROR, stack=part)
        if self.stopping and not fault:
            return 0
        log.event("api.ended", logging.ERROR, exit=code, signal=fault)
        return 0 if self.stopping else 1

    def _released(self, request: int, error: StageError | None) -> None:
        self._made(request, self.making.released(request) or error or {})

    def _made(self, request: int, told: dict[str, Any] | StageError) -> None:
        self._answer(
            request, _refusal(told) if isinstance(told, StageError) else {"ok": True} | told
        )

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

    def _end(self) -> None:
        """Collect what ends with the daemon, helpers and terminals, unmount every scratch. Runs
        go on, for the next daemon to find, unless they are tied to this one."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for started in self.working.all():
            if started.run is None or self.requests.tied:
                kill(started)
        deadline = time.monotonic() + GRACE_S
        while (self._ending() or len(self.chores)) and time.monotonic() < deadline:
            self._collect()
            self.working.remove_groups()
            time.sleep(RETRY_S / 4)
        for slot in self.requests.slots.leased.values():
            try:
                wire.close_all(self.requests.folders.take_back(slot))
                self.requests.scratch.unmount(slot.path)
            except StageError as error:
                log.event("unmount", logging.ERROR, slot=slot.number, error=str(error))

    def _ending(self) -> bool:
        """Something is still there that ends with the daemon."""
        return bool(self.working.removing) or any(
            started.run is None or started.terminal or self.requests.tied
            for started in self.working.children
        )


def _refusal(error: SandboxdError) -> dict[str, Any]:
    """An error as the fields of an answer."""
    if isinstance(error, StageError):
        fields = {"kind": "stage", "stage": error.stage, "errno": error.errno}
        return {"ok": False, "error": error.message[:ERROR_MAX]} | fields
    kind = "invalid" if isinstance(error, Invalid) else "unavailable"
    return {"ok": False, "error": str(error)[:ERROR_MAX], "kind": kind}
