"""A daemon that is killed and comes back, as a service manager would have it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import httpx
from websockets.sync.client import unix_connect

from sandboxd.host import procfs

from ..e2e.daemon import ROOT, sessions_of, slots_in_use
from ..http_clients import unix_client
from ..loop_devices import backing_files
from ..processes import descendants, title, titles
from ..waiting import PATIENCE_S, until

Victim = Literal["api", "warden", "both", "term", "shim", "init", "spawner", "prepared", "warm"]
"""A part of the daemon, a process of a run, or all processes of one kind that wait for runs."""

RUN_GROUP = re.compile(r"\d+\.\d+")

COMES_BACK_S = 4 * PATIENCE_S

PREPARED = "sandboxd: prepared"
"""The title of a process that no run has claimed."""


class Service:
    """`sandboxd serve`, started again whenever it ends, until `stop`."""

    def __init__(self, folder: Path, first_uid: int, config: str = "") -> None:
        self.folder, self.state = folder, folder / "state"
        self.uids = range(first_uid, first_uid + 64)
        slots = f"[slots]\nfirst_uid = {first_uid}\ncount = {len(self.uids)}\n"
        keep = "[sessions]\nbatch_keep_s = 600\n"  # longer than a client is away
        (folder / "config.toml").write_text(f'metrics = ""\n{config}{slots}{keep}')
        self.log = open(folder / "log", "ab")  # as long as the service
        self.kills = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._keeper = threading.Thread(target=self._keep_up, daemon=True)
        self._keeper.start()

    def _keep_up(self) -> None:
        socket = f"unix:{self.folder}/api.sock"
        command = [sys.executable, "-P", "-m", "sandboxd", "serve", "--listen", socket]
        command += ["--state-dir", str(self.state), "--config", f"{self.folder}/config.toml"]
        environ = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
        while not self._stopped.is_set():
            with self._lock:
                if self._stopped.is_set():
                    return
                self._process = subprocess.Popen(
                    command, env=environ, stdout=self.log, stderr=self.log
                )
            self._process.wait()
            time.sleep(0.02)  # a service manager is not faster

    def client(self) -> httpx.Client:
        """A client of it, over its socket."""
        return unix_client(f"{self.folder}/api.sock", timeout=20)

    def frames(self, path: str, first: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The frames of a WebSocket after the frame `first`. Raises OSError, WebSocketException."""
        with unix_connect(f"{self.folder}/api.sock", f"ws://sandboxd{path}", max_size=None) as open:
            open.send(json.dumps(first))
            for frame in open:
                yield json.loads(frame)

    def ready(self) -> bool:
        """It answers."""
        with contextlib.suppress(httpx.TransportError), self.client() as http:
            return http.get("/").status_code == 200
        return False

    def wait_until_ready(self) -> None:
        """Return when it answers."""
        until(self.ready, COMES_BACK_S, self.said)

    def said(self) -> str:
        """The end of its log."""
        return (self.folder / "log").read_text(errors="replace")[-4000:]

    def kill(self, victim: Victim, session: str = "") -> bool:
        """End `victim`: a part of the daemon, or of the run of `session`; False: there is none."""
        pids = self._pids(victim, session)
        if victim == "prepared":  # the search takes long, and others begin runs meanwhile
            pids = [pid for pid in pids if title(pid) == PREPARED]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM if victim == "term" else signal.SIGKILL)
        if victim == "init":
            # One that is dying takes a run with it that begins meanwhile: the shim sees its end
            # when the kernel has closed its socket.
            until(lambda: not any(os.path.exists(f"/proc/{pid}/exe") for pid in pids))
        self.kills += bool(pids)
        return bool(pids)

    def _pids(self, victim: Victim, session: str) -> list[int]:
        if victim in ("shim", "init", "warm"):
            slots = [number for number, name in sessions_of(self.state).items() if name == session]
            wanted = {self.uids[int(number)] for number in slots}
            pids = [pid for pid, uid, name in processes()
                    if uid in wanted and (name.endswith(" warm") if victim == "warm"
                                          else f"sandboxd: {victim}" in name)]  # fmt: skip
            return pids[:1]
        warden = self._process.pid if self._process and self._process.poll() is None else 0
        api = [pid for pid, uid, name in processes()
               if uid == self.uids[0] - 1 and name == "sandboxd: api"]  # fmt: skip
        if not warden:
            return []
        if victim in ("spawner", "prepared"):
            return list(descendants(warden, f"sandboxd: {victim}"))
        return {"api": api, "warden": [warden], "term": [warden], "both": [*api, warden]}[victim]

    def left(self) -> list[str]:
        """All resources of sessions on this host; none, when all sessions are deleted."""
        leaks = [f"process {pid} {name}" for pid, uid, name in processes() if uid in self.uids]
        slots = set(slots_in_use(self.state)) if (self.state / "slots").exists() else set()
        leaks += [f"slot {number}" for number in slots]
        leaks += [f"folder {path}" for path in self.state.glob("folders/*")]
        for image in backing_files():
            number = image.split("/")[-2]  # .../slots/NUMBER/image, of a spare too
            is_left = str(self.state) in image and (number in slots or "/folders/" in image)
            leaks += [f"loop device on {image}"] if is_left else []
        name = "sandboxd-" + sha256(str(self.state).encode()).hexdigest()[:8]
        for top, directories, _ in os.walk("/sys/fs/cgroup"):
            runs = [each for each in directories if name in top and RUN_GROUP.fullmatch(each)]
            leaks += [f"cgroup {top}/{each}" for each in runs]
        return leaks

    def expect_nothing_left(self) -> None:
        """All sessions are deleted: soon nothing is left of them."""
        until(lambda: not self.left(), why=self.left)

    def purge(self) -> None:
        """Delete every session, after a failure."""
        self.wait_until_ready()
        with self.client() as http:
            for session in sessions_of(self.state).values():
                with contextlib.suppress(httpx.TransportError):
                    http.delete(f"/session/{session}")
            for path in self.state.glob("folders/*"):
                with contextlib.suppress(httpx.TransportError):
                    http.delete(f"/folders/{path.name}")

    def stop(self) -> None:
        """End it for good."""
        self._stopped.set()
        with self._lock:
            process = self._process
        if process and process.poll() is None:
            process.terminate()
        self._keeper.join(PATIENCE_S)
        self.log.close()


def processes() -> list[tuple[int, int, str]]:
    """Pid, real uid and title of every process."""
    entries = []
    for pid, name in titles("").items():
        state, uids = procfs.status(pid, "State", "Uid")
        if state[:1] not in ("Z", "X", ""):
            entries.append((pid, int(uids.split()[0]), name))
    return entries


def chosen(seed: str, count: int) -> list[random.Random]:
    """A generator for each of `count` points; the same for the same seed."""
    return [random.Random(f"{seed}/{number}") for number in range(count)]
