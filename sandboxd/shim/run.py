"""The execution of one run, from its first step to its last verdict.

The warden gives a run to a shim and then only waits for its end. The shim forks the run's init,
drops root (main.py) and runs the steps. Each step gets its limits in the cgroup, its pipes
and its deadlines, and at its end a verdict in the run's journal. Output goes to the spool
(console.py). Clients follow the run over the control socket (control.py).

The shim has one thread and one selector. It polls for four things, which the kernel does not
announce: a program that waits for input, the end of the CPU time, the disk (storage.py), and the
most memory and processes (peaks.py). All else is an event, or has a time that is known.
"""

from __future__ import annotations

import errno
import functools
import os
import selectors
import signal
import stat
import time
from dataclasses import replace

from ..errors import StageError
from ..jail import rlimits
from ..jail.cgroup import Counters
from ..model import BUILD_FAILED, HOME, Sender, Step, Usage, Verdict, most, size
from ..spool import STDERR, STDOUT, ConsoleWriter, append_event
from . import advice, control_requests, environment, ipc
from .broker_socket import BrokerSocket
from .console import ConsoleCopier
from .control import END, Control, RunProgress
from .deadlines import Deadlines
from .denied_calls import DeniedCalls
from .facts import StepFacts
from .input_stream import InputStream
from .launch import Init
from .peaks import FIRST_SAMPLE_S, PeakSampler
from .run_spec import RunSpec
from .stdin import Stdin, check_wait
from .storage import Storage, has_output
from .terminal import PseudoTerminal
from .terminal_stdin import TerminalStdin
from .verdict import is_clean, judge

TIME_LIMITS = ("wall_s", "cpu_s")
"""The limits that end the whole run, whatever the exit status of the step is."""

MEMORY_EXIT = 128 + signal.SIGKILL
"""Exit code of a step that had too little memory to start, as if the kernel had killed it."""


class RunExecution:
    """The steps of one run, after the shim has dropped root and init is ready.

    external_signals  signals that the shim sent to the step, with the party that wanted each
    status            wait status of the step's first process; None: it has not ended
    ended_by          the limit for which the shim ends the step
    terminated_by     the party that has sent SIGTERM so that the run ends with this step
    killed_by         the party that ends the run
    over              the step has ended, or has to
    is_clean          each step has ended by itself
    stdin_used        the descriptor `stdin` of `spec` is closed
    """

    denied: DeniedCalls
    broker: BrokerSocket | None

    def __init__(self, spec: RunSpec, init: Init, storage: Storage) -> None:
        """Nothing of the run begins before `execute`: init may not be ready yet."""
        self.spec = spec
        self.init = init
        # Not epoll(7): its watches are limited per uid, and the programs have the same uid.
        self.selector = selectors.PollSelector()
        self._writer = ConsoleWriter(spec.console, spec.bounds.head, spec.bounds.tail)
        self.console = ConsoleCopier(self.selector, self._writer)
        self.control = Control(
            self.selector,
            spec.listener,
            self._progress,
            functools.partial(control_requests.handle, self),
        )
        self.control.add(spec.reader, END)
        self.selector.register(init.sock, selectors.EVENT_READ, self._handle_init_message)
        self.storage = storage
        self.most = most(step.limits for step in spec.steps)
        self.is_first = True
        self.peaks = PeakSampler(spec.group)
        self.events = self.inputs = 0
        self.stdin: Stdin | None = None
        self.input = InputStream(self.selector, self.record_input, spec.stdin is not None)
        self.terminal: PseudoTerminal | None = None
        self.deadlines = Deadlines()
        self.status: int | None = None
        self.ended_by: str | None = None
        self.terminated_by: Sender | None = None
        self.external_signals: dict[int, Sender] = {}
        self.over = False
        self.killed_by: Sender | None = None
        self.is_clean, self.stdin_used = not (spec.terminal or spec.interactive), False

    def execute(self, denied: DeniedCalls, broker: BrokerSocket | None) -> None:
        """Run all steps. The journal then has a verdict for each step that the run came to."""
        self._writer.begin()
        self.denied, self.broker = denied, broker
        denied.watch(self.selector, self.spec.meets_others)
        if broker:
            broker.begin(self.selector, self._note_refusal)
        build_failed = False
        for step in self.spec.steps:
            if step.command is None:
                self._record_verdict(step, 0, Verdict("skipped"))
            elif step.name == "exec" and build_failed:
                verdict = Verdict("skipped", advice="the build failed")
                self._record_verdict(step, BUILD_FAILED, verdict)
            else:
                code = self._run_step(step) if self._apply_limits(step) else MEMORY_EXIT
                if code is None:
                    return
                build_failed = step.name == "build" and code != 0

    def _apply_limits(self, step: Step) -> bool:
        """Write the step's limits to the cgroup. False, with a verdict, when files of an earlier
        step take more memory than the limit."""
        if not self.is_first:
            ipc.clear()
        self.is_first = False
        try:
            self.spec.group.limit(step.limits)
        except StageError as error:
            if error.errno != errno.EBUSY:
                raise
            text = advice.NO_MEMORY_LEFT.format(size(step.limits.memory))
            self._record_verdict(step, MEMORY_EXIT, Verdict("limit", "memory", advice=text))
            self.is_clean = False
            return False
        return True

    def _run_step(self, step: Step) -> int | None:
        """Run one step and record its verdict. Returns the exit code; None: the run ends here."""
        # An earlier step may have taken away rights that later steps need.
        if (mode := stat.S_IMODE(os.stat(HOME).st_mode)) | stat.S_IRWXU != mode:
            os.chmod(HOME, mode | stat.S_IRWXU)
        group = self.spec.group
        before = group.counters()
        self.status, self.ended_by, self.over = None, None, False
        self.external_signals.clear()
        self.peaks.begin()
        self.denied.begin()
        self.storage.begin(step.limits)
        self.deadlines.start(step.limits, self.spec.bounds.input_s, group.cpu_s)
        self._spawn(step)
        self._serve_until_end(before)
        self.peaks.sample(self.storage.check_s)  # before the processes and their memory go
        if self.status is None or self.ended_by in TIME_LIMITS:
            self.init.kill()
        self.console.drain()
        if self.broker:
            self.broker.drain()
        self._check_output()
        dropped = self.stdin.dropped if self.stdin else 0
        self.input.finish()
        if self.stdin:
            self.stdin.finish()
        self.stdin = None
        if self.terminal:
            self.terminal.finish()
        facts = self._collect_facts(step, before, group.counters())
        verdict = judge(facts)
        self.is_clean = self.is_clean and is_clean(facts, verdict)
        if dropped:
            text = f"{dropped} bytes of input were dropped: the program did not read fast enough"
            verdict = replace(verdict, advice=text)
        code = facts.exit
        if self.killed_by or (code is None and self.ended_by is None):
            code = -1 if verdict.outcome == "fault" else 128 + signal.SIGKILL
            self._record_verdict(step, code, verdict, final=True)
            return None
        self._record_verdict(step, code, verdict, final=self.terminated_by is not None)
        return None if self.terminated_by else code

    def _collect_facts(self, step: Step, before: Counters, after: Counters) -> StepFacts:
        self.storage.check()
        if self.terminal and self.terminal.hung_up:
            self.external_signals[signal.SIGHUP] = "client"
        return StepFacts(
            limits=step.limits,
            usage=self._usage(before, after),
            status=None if self.ended_by in TIME_LIMITS else self.status,
            ended_by=self.ended_by,
            killed_by=self.killed_by,
            before=before,
            after=after,
            stored_before=self.storage.start,
            stored=self.storage.used,
            full=self.storage.full,
            denied=self.denied.counts,
            last_denied=self.denied.last,
            external_signals=dict(self.external_signals),
            last_output=self.console.last_output,
            excess=self.console.excess,
            unwritten=self.console.unwritten,
            host_full=self.storage.host_full,
            refused=tuple(self.broker.refusals) if self.broker else (),
            network=self.broker is not None,
        )

    def _spawn(self, step: Step) -> None:
        shell, command = self.spec.shell, step.command or ""
        may_ask = step.name == "exec" and (self.spec.stdin is None or self.spec.terminal)
        environ = environment.of_step(step.limits, may_ask, self.spec.environ, self.spec.network)
        rlimits_below = rlimits.lower(step.limits, self.most)
        if self.spec.terminal and self.spec.stdin is not None:
            self.terminal = PseudoTerminal(self.selector, self.spec.stdin)
            self.init.start(shell, command, environ, [], self.terminal.path, rlimits_below)
            return
        if self.spec.interactive and step.name == "exec":
            terminal = TerminalStdin(self.selector, self.input.update)
            err = self.console.attach_terminal(step.limits, terminal.output())
            self.stdin = terminal
            self.input.begin(terminal, True)
            self.init.start(shell, command, environ, [err], terminal.path, rlimits_below)
            return
        out, err = self.console.attach(step.limits)
        if self.spec.stdin is None:
            is_last = step.name == "exec"
            self.stdin = Stdin(self.selector, self.input.update, is_last)
            self.input.begin(self.stdin, is_last)
            stdin = self.stdin.child
        elif step.name == "exec":
            stdin, self.stdin_used = self.spec.stdin, True
        else:
            stdin = os.open("/dev/null", os.O_RDONLY)
        self.init.start(shell, command, environ, [stdin, out, err], rlimits=rlimits_below)
        os.close(stdin)

    def _serve_until_end(self, before: Counters) -> None:
        """Serve all descriptors until the step is over or reaches a limit."""
        check_due = time.monotonic() + FIRST_SAMPLE_S
        while not self.over:
            now = time.monotonic()
            if self._is_time_up(now, before):
                return
            if self.terminal and self.terminal.abandoned(now):
                self.killed_by = "client"
                return
            if now >= check_due:
                self.peaks.sample(self.storage.check_s)
                self.exceed(self.storage.check())
                check_due = now + self.peaks.interval_s
            check_wait(
                now, self.stdin, self.deadlines, self.input.attached, self.console.quiet_since
            )
            self.control.notify()
            times = [
                self.deadlines.next(now), check_due,
                self.console.resume(now), self.denied.resume(now),
                self.terminal.next_due(now) if self.terminal else None,
            ]  # fmt: skip
            due = min(at for at in times if at is not None)
            for key, _ in self.selector.select(max(0.0, due - time.monotonic())):
                key.data(key.fd)
                self._check_output()

    def _is_time_up(self, now: float, before: Counters) -> bool:
        """Whether the step has to be killed now. Set `ended_by` when its time is used up."""
        if self.deadlines.wall_reached(now):
            self.ended_by = "wall_s"
            self.terminate(now)
        if self.deadlines.kill_due(now):
            self.killed_by = self.terminated_by
            return True
        if self.deadlines.cpu_due(now):
            used = (self.spec.group.counters().cpu_us - before.cpu_us) / 1e6
            if self.deadlines.cpu_reached(now, used):
                self.ended_by = self.ended_by or "cpu_s"
                return True
        return False

    def terminate(self, now: float) -> None:
        """Send SIGTERM to all processes of the step, which may still print."""
        self.deadlines.begin_grace(now)
        if not self.deadlines.kill_due(now):
            self.init.signal(signal.SIGTERM, every=True)

    def exceed(self, limit: str | None) -> None:
        """Kill the step, if it is over a `limit`; the run goes on with the next step."""
        if limit and self.ended_by is None:
            self.ended_by = limit
            self.init.signal(signal.SIGKILL)

    def _check_output(self) -> None:
        """Kill a step that has printed more than its limit; the run goes on with the next step.
        A step that ended before has the same exit status, which must not depend on the moment."""
        if not self.console.end_reached or self.killed_by or self.ended_by not in (None, "output"):
            return
        if self.status is not None:
            self.status = signal.SIGKILL
        elif self.ended_by is None and not self.over:
            self.init.signal(signal.SIGKILL)
        self.ended_by = "output"

    def _progress(self) -> RunProgress:
        awaits_input = self.deadlines.awaits_input
        return RunProgress(self.console.position, self.events, awaits_input, self.inputs)

    def _handle_init_message(self, _: int) -> None:
        try:
            message = self.init.receive()
        except StageError:
            if not (self.terminal and self.terminal.hung_up):
                raise
            message, self.killed_by = None, "client"  # the terminal was gone before its shell
        if message is None:
            self.selector.unregister(self.init.sock)
        else:
            self.status = int(message["exit"])
            self.peaks.record_processes(message["resident"], message["inherited"])
        self.over = True

    def _note_refusal(self, text: str) -> None:
        self.console.note(f"the network refused a connection: {text}")

    def record_input(self) -> None:
        """A client has sent input."""
        self.deadlines.record_input(time.monotonic())

    def _usage(self, before: Counters, after: Counters) -> Usage:
        return Usage(
            wall_ms=int(self.deadlines.elapsed(time.monotonic()) * 1000),
            cpu_ms=(after.cpu_us - before.cpu_us) // 1000,
            mem_peak=self.peaks.memory(before, after),
            pids_peak=self.peaks.tasks(before, after),
            stdout_bytes=self.terminal.sent if self.terminal else self.console.received[STDOUT],
            stderr_bytes=self.console.received[STDERR],
            cut_bytes=self.console.cut,
        )

    def _record_verdict(
        self, step: Step, code: int | None, verdict: Verdict, final: bool = False
    ) -> None:
        """Append the verdict to the journal. `final`: the run ends with this step."""
        event = {"event": "step", "step": step.name, "exit": code, "verdict": verdict.record()}
        event |= {"final": True} if final else {}
        event |= {"output": has_output()} if step.name == "exec" else {}
        append_event(self.spec.journal, event | {"console": self.console.position})
        self.events += 1
        self.control.notify()
