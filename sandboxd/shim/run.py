"""One run, from its first step to its last verdict.

The warden forks a shim for each run and then only waits for its end. The shim makes the run's
init, gives up root (main.py), and goes through the steps: each gets its limits written into
the cgroup, pipes, a deadline, and at its end a verdict in the run's journal. What it prints
goes to the spool (console.py); who follows the run speaks to the control socket (control.py).

One thread, one selector, no polling but for three things that the kernel cannot announce: that
a program waits for input (looked at when the console has been quiet for a moment, then ever
less often), that CPU time is used up (looked at when it could be, at the earliest), and how much
has been written to the disk (storage.py).
"""

from __future__ import annotations

import errno
import os
import selectors
import signal
import stat
import time
from dataclasses import asdict, replace
from typing import Any

from ..errors import StageError
from ..jail import rlimits
from ..jail.cgroup import Counters
from ..model import ALIASES, BUILD_FAILED, HOME, PATH, Sender, Step, Usage, Verdict, most
from ..spool import STDERR, STDOUT, ConsoleWriter, append_event
from . import advice, shared_memory
from .console import ConsoleCopier
from .control import Control, RunProgress
from .deadlines import Deadlines
from .denied_calls import DeniedCalls
from .facts import StepFacts
from .launch import Init
from .run_spec import RunSpec
from .stdin import Stdin
from .storage import Storage
from .terminal import PseudoTerminal
from .verdict import judge

MEMORY_EXIT = 128 + signal.SIGKILL
"""Exit code of a step that had no memory to begin with: as if it had been killed for that."""

_ENVIRON = {
    "TERM": "xterm",
    "LANG": "C.UTF-8",
    "SHELL": "/bin/bash",
    "USER": "work",
    "HOME": HOME,
    "PATH": f"{HOME}/.local/bin:{PATH}:{ALIASES}",
}


class RunExecution:
    """The steps of one run, with root gone and init waiting."""

    def __init__(self, order: RunSpec, init: Init, denied: DeniedCalls, storage: Storage) -> None:
        self.order = order
        self.init = init
        # Not epoll(7): it bounds what a uid may watch, and ours is the program's.
        self.selector = selectors.PollSelector()
        writer = ConsoleWriter(order.console, order.keep.head, order.keep.tail)
        writer.begin()
        self.console = ConsoleCopier(self.selector, writer)
        self.control = Control(self.selector, order.listener, self._state, self._act)
        self.selector.register(init.sock, selectors.EVENT_READ, self._from_init)
        self.denied = denied
        denied.watch(self.selector)
        self.storage = storage
        self.most = most(step.limits for step in order.steps)
        self.ran = False
        self.tasks = 0
        self.events = self.inputs = 0
        self.stdin: Stdin | None = None
        self.terminal: PseudoTerminal | None = None
        self.clock = Deadlines()
        self.status: int | None = None
        self.ended_by: str | None = None
        self.asked: dict[int, Sender] = {}
        self.over = False
        self.killed: Sender | None = None

    def steps(self) -> None:
        """Run them all; the journal has a verdict for each when this returns."""
        failed = False
        for step in self.order.steps:
            if step.command is None:
                self._event(step, 0, Verdict("skipped"))
            elif step.name == "exec" and failed:
                self._event(step, BUILD_FAILED, Verdict("skipped", advice="the build failed"))
            else:
                code = self._step(step) if self._has_limits(step) else MEMORY_EXIT
                if code is None:
                    return
                failed = step.name == "build" and code != 0

    def _has_limits(self, step: Step) -> bool:
        """Put the step's limits in force; False, with its verdict, when there is no room left."""
        if self.ran:
            shared_memory.clear()
        self.ran = True
        try:
            self.order.jail.group.limit(step.limits)
        except StageError as error:
            if error.errno != errno.EBUSY:
                raise
            why = advice.NO_MEMORY_LEFT.format(advice.size(step.limits.memory))
            self._event(step, MEMORY_EXIT, Verdict("limit", "memory", advice=why))
            return False
        return True

    def _step(self, step: Step) -> int | None:
        """Run one step and record its verdict; its exit code, None when it ended the run."""
        # A step before may have shut the next ones, and us, out.
        os.chmod(HOME, stat.S_IMODE(os.stat(HOME).st_mode) | stat.S_IRWXU)
        group = self.order.jail.group
        before = group.counters()
        self.status, self.ended_by, self.over = None, None, False
        self.asked.clear()
        self.tasks = 1
        self.denied.begin()
        self.storage.begin(step.limits)
        self.clock.start(step.limits, self.order.keep.input_s)
        self._spawn(step)
        self._follow(step, before)
        if self.status is None:
            self.init.kill()
        self.console.drain()
        dropped = self.stdin.dropped if self.stdin else 0
        if self.stdin:
            self.stdin.close()
        self.stdin = None
        if self.terminal:
            self.terminal.finish()
        facts = self._facts(step, before, group.counters())
        found = judge(facts)
        if dropped:
            found = replace(found, advice=f"{dropped} bytes of input came faster than it read them")
        code = facts.exit
        if self.killed or (code is None and self.ended_by is None):
            code = -1 if found.outcome == "fault" else 128 + signal.SIGKILL
            self._event(step, code, found, final=True)
            return None
        self._event(step, code, found)
        return code

    def _facts(self, step: Step, before: Counters, after: Counters) -> StepFacts:
        self.storage.look()
        if self.terminal and self.terminal.left:
            self.asked[signal.SIGHUP] = "client"
        return StepFacts(
            limits=step.limits,
            usage=self._usage(before, after),
            status=self.status,
            ended_by=self.ended_by,
            requested=self.killed,
            before=before,
            after=after,
            stored_before=self.storage.start,
            stored=self.storage.stored(),
            full=self.storage.full,
            denied=self.denied.counts,
            last_denied=self.denied.last,
            asked=dict(self.asked),
            said=self.console.said,
            over=self.console.over,
            unwritten=self.console.unwritten,
            host_full=self.storage.host_full,
        )

    def _spawn(self, step: Step) -> None:
        argv = [self.order.shell, "-c", step.command or ""]
        environ = _ENVIRON | self.order.environ
        lower = rlimits.lower(step.limits, self.most)
        if self.order.terminal and self.order.stdin is not None:
            self.terminal = PseudoTerminal(self.selector, self.order.stdin)
            self.init.start(argv, environ, [], self.terminal.path, lower)
            return
        out, err = self.console.attach(step.limits.output)
        given = None
        if self.order.stdin is None:
            self.stdin = Stdin()
            given = self.stdin.child
        elif step.name == "exec":
            given = self.order.stdin
        else:
            given = os.open("/dev/null", os.O_RDONLY)
        self.init.start(argv, environ, [given, out, err], rlimits=lower)
        for fd in (given, out, err):
            os.close(fd)

    def _follow(self, step: Step, before: Counters) -> None:
        """Serve everybody until the step is over, or a limit ends it."""
        look = time.monotonic()
        while not self.over:
            now = time.monotonic()
            if self.clock.wall_reached(now):
                self.ended_by = "wall_s"
                return
            if self.clock.cpu_due(now):
                used = (self.order.jail.group.counters().cpu_us - before.cpu_us) / 1e6
                if self.clock.cpu_reached(now, used):
                    self.ended_by = "cpu_s"
                    return
            if self.terminal and self.terminal.abandoned(now):
                self.killed = "client"
                return
            if now >= look:
                look = now + self.storage.look_s
                self._look()
            self._look_at_stdin(now)
            times = [self.clock.next(now), look, self.console.resume(now), self.denied.resume(now)]
            times += [self.terminal.next(now)] if self.terminal else []
            due = min(t for t in times if t is not None)
            for key, _ in self.selector.select(max(0.0, due - time.monotonic())):
                key.data(key.fd)
            self.control.notify()

    def _look(self) -> None:
        """Look at what nobody announces; end the step, not the run, if it has written too much."""
        self.tasks = max(self.tasks, self.order.jail.group.tasks())
        exceeded = self.storage.look()
        if exceeded and self.ended_by is None:
            self.ended_by = exceeded
            self.init.signal(signal.SIGKILL)

    def _look_at_stdin(self, now: float) -> None:
        """Find out whether the program waits for input; end the input that never comes."""
        if self.stdin is None or self.stdin.fd is None:
            self.clock.forget_input()
            return
        self.stdin.flush()
        if self.clock.input_reached(now):
            self.stdin.close()
            self.clock.forget_input()
        elif self.clock.look_due(now, self.console.quiet_since):
            awaited = self.stdin.awaited()
            self.clock.looked(now, awaited, time.monotonic() - now)
        self.control.notify()

    def _state(self) -> RunProgress:
        return RunProgress(self.console.position, self.events, self.clock.waiting, self.inputs)

    def _from_init(self, _: int) -> None:
        message = self.init.receive()
        if message is None:
            self.selector.unregister(self.init.sock)
        else:
            self.status = int(message["exit"])
        self.over = True

    def _act(self, message: dict[str, Any]) -> None:
        """A request of somebody who follows the run; what it does not understand it leaves."""
        op = message.get("op")
        by: Sender = "sandboxd" if message.get("by") == "sandboxd" else "client"
        self.inputs += op == "input"
        if op == "input" and self.stdin:
            text = str(message.get("text", "")).encode("utf-8", "surrogateescape")
            self.stdin.write(text, bool(message.get("eof")))
            self.clock.answered(time.monotonic())
        elif op == "decline":
            self.clock.declined(time.monotonic())
        elif op == "signal" and message.get("name") in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"):
            number = signal.Signals[message["name"]]
            self.asked[number] = by
            self.init.signal(number)
        elif op == "kill":
            self.killed, self.over = by, True

    def _usage(self, before: Counters, after: Counters) -> Usage:
        grown = after.pids_peak > before.pids_peak
        return Usage(
            wall_ms=int(self.clock.elapsed(time.monotonic()) * 1000),
            cpu_ms=(after.cpu_us - before.cpu_us) // 1000,
            mem_peak=after.memory_peak,
            # The kernel's peak is this step's if it has grown; else a look must have been lucky.
            pids_peak=max(self.tasks, after.pids_peak if grown else 0),
            stdout_bytes=self.terminal.shown if self.terminal else self.console.received[STDOUT],
            stderr_bytes=self.console.received[STDERR],
            cut_bytes=self.console.cut,
        )

    def _event(self, step: Step, code: int | None, found: Verdict, final: bool = False) -> None:
        event = {"event": "step", "step": step.name, "exit": code, "verdict": asdict(found)}
        if final:
            event["final"] = True
        append_event(self.order.journal, event | {"console": self.console.position})
        self.events += 1
        self.control.notify()
