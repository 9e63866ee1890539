"""The runner of attacks: over the API, each in a session of its own that is deleted afterwards."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Protocol

from ..errors import Refused, SandboxdError, Unavailable
from ..jail import syscalls
from . import host_view
from .attack import NAMES, READY, Attack, AttackOutcome, Judgement, judge, source
from .attacks import exhaustion, files, kernel, network, persistence, processes, workspace

ATTACKS: tuple[Attack, ...] = (
    *files.ATTACKS, *processes.ATTACKS, *network.ATTACKS,
    *kernel.ATTACKS, *exhaustion.ATTACKS, *persistence.ATTACKS,
)  # fmt: skip

WORKSPACE_ATTACKS: tuple[Attack, ...] = workspace.ATTACKS
"""The attacks for which the user has to name a workspace."""

PYTHON = "/usr/bin/python3"
MARGIN_S = 40.0
"""Time beyond its own that an attack has until its run is abandoned."""

TTL_S = 1200.0
"""The time to live of a session, for a self-test that is killed; an attack takes less."""


class SelftestClient(Protocol):
    """The part of the command line's client that the runner uses."""

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The answer to a request, decoded. Raises SandboxdError."""
        ...


class AttackRunner:
    """Attacks on the daemon behind `api`. `is_root`: the host is looked at as well. `workspace` is
    the directory of the user for the attacks that need one."""

    def __init__(
        self,
        api: SelftestClient,
        canaries: host_view.Canaries,
        image: str,
        is_root: bool,
        workspace: str = "",
    ) -> None:
        self._api = api
        self._canaries = canaries
        self._image = image
        self._is_root = is_root
        self._workspace = workspace
        self._numbers = syscalls.syscall_numbers(NAMES)

    def attack(self, attack: Attack) -> Judgement:
        """Carry out one attack. Any failure on the way counts as unclear, never as held."""
        list(self._canaries.touched())
        try:
            outcome, prints = self._run(attack)
        except (SandboxdError, OSError) as error:
            return Judgement(None, str(error))
        breaches = [*outcome.host, *self._canaries.touched()]
        if attack.workspace:
            breaches += host_view.set_id_files(self._workspace)
        for footprint in prints:
            breaches += [f"left behind: {what}" for what in host_view.remains(footprint)]
        return judge(attack, replace(outcome, host=tuple(breaches)))

    def command(self, text: str, token: str) -> str:
        """The shell command of a program."""
        program = source(text, self._numbers, self._canaries.canary, self._canaries.digest, token)
        return f"exec {PYTHON} -I -c {shlex.quote(program)}"

    def _run(self, attack: Attack) -> tuple[AttackOutcome, set[host_view.Footprint]]:
        prints: set[host_view.Footprint] = set()
        with contextlib.ExitStack() as stack:
            if attack.before:
                other = stack.enter_context(self._session({}))
                run = AttackRun(self._api, other, {"exec": self.command(attack.before, "before")})
                run.until(READY, attack.timeout)
            workspace = self._workspace if attack.workspace else ""
            session = stack.enter_context(self._session(attack.resources, workspace))
            token = f"selftest-{secrets.token_hex(8)}"
            steps = {attack.step: self.command(attack.program, token)}
            run = AttackRun(self._api, session, steps | {"timeout": attack.timeout})
            breaches: list[str] = []
            if attack.looks:
                run.until(READY, attack.timeout)
                breaches = self._look(attack, token, prints)
                if attack.kind == "persistence":
                    return self._outcome(run, breaches, stdout=run.stdout + "\nheld\n"), prints
                run.answer()
            run.until_end(attack.timeout + MARGIN_S)
        return self._outcome(run, breaches), prints

    def _look(self, attack: Attack, token: str, prints: set[host_view.Footprint]) -> list[str]:
        """The breaches that the host sees on the program; its footprints go into `prints`."""
        if not self._is_root:
            return []
        pids = host_view.find(token)
        if not pids:
            raise Unavailable("the host does not find the program")
        prints.update(one for one in map(host_view.footprint, pids) if one)
        return [breach for pid in pids for breach in host_view.look(attack.looks, pid)]

    @staticmethod
    def _outcome(run: AttackRun, breaches: list[str], stdout: str | None = None) -> AttackOutcome:
        verdict = run.verdict
        return AttackOutcome(
            run.stdout if stdout is None else stdout,
            run.stderr,
            run.exit,
            str(verdict.get("outcome", "")),
            verdict.get("limit"),
            tuple(breaches),
        )

    @contextlib.contextmanager
    def _session(self, resources: dict[str, Any], workspace: str = "") -> Iterator[str]:
        mem = {name: value for name, value in resources.items() if name == "mem"}
        others = {name: value for name, value in resources.items() if name != "mem"}
        body = {
            "name": f"selftest-{secrets.token_hex(6)}", "image": self._image,
            "config": {"resources": mem, "resource_opts": others, "workspace": workspace},
            "reuseIfExists": False, "ttlSeconds": TTL_S,
        }  # fmt: skip
        id = self._api.call("POST", "/session", body)["sessionId"]
        try:
            yield id
        finally:
            with contextlib.suppress(Refused):
                self._api.call("DELETE", f"/session/{id}")


class AttackRun:
    """One batch run, followed by polling."""

    def __init__(self, api: SelftestClient, session: str, options: dict[str, Any]) -> None:
        self._api = api
        self._path = f"/session/{session}"
        self.stdout = self.stderr = ""
        self.exit: int | None = None
        self.verdict: dict[str, Any] = {}
        self.over = self._waits = False
        self._id: str | None = None
        self._take({"mode": "batch", "code": "", "options": options | {"live": True}})

    def until(self, word: str, seconds: float) -> None:
        """Follow until the program has printed `word` on a line of its own. Raises Unavailable."""
        deadline = time.monotonic() + seconds
        while word not in self.stdout.splitlines():
            self._more(deadline, f"the program did not print {word}")

    def until_end(self, seconds: float) -> None:
        """Follow to the end of the run. Raises Unavailable when it does not end."""
        deadline = time.monotonic() + seconds
        while not self.over:
            self._more(deadline, "the run does not end")

    def answer(self) -> None:
        """Send the program the line that it waits for."""
        deadline = time.monotonic() + MARGIN_S
        while not self._waits and not self.over:
            self._more(deadline, "the program does not wait")
        if not self.over:
            self._take({"mode": "input", "code": "go\n", "runId": self._id, "options": _LIVE})

    def _more(self, deadline: float, otherwise: str) -> None:
        if self.over or time.monotonic() > deadline:
            last = (self.stderr.strip().splitlines() or ["it printed no error"])[-1]
            raise Unavailable(f"{otherwise}: {last}")
        self._take({"mode": "continue", "code": "", "runId": self._id, "options": _LIVE})

    def _take(self, call: dict[str, Any]) -> None:
        result = self._api.call("POST", self._path, call)["result"]
        self._id = result["runId"]
        for kind, data in result["console"]:
            if kind == "stdout":
                self.stdout += data
            elif kind == "stderr":
                self.stderr += data
        status = result["status"]
        self._waits = status == "waiting-input"
        verdict = result.get("verdict")
        if verdict and verdict.get("outcome") != "skipped":
            self.verdict, self.exit = verdict, result["exitCode"]
        self.over = status in ("finished", "exec-timeout", "error")


_LIVE = {"live": True}


def is_root() -> bool:
    """The host can be looked at."""
    return os.geteuid() == 0
