"""The life of a session, as seen by a client that never gives up, and the promises to that client.

Each phase does one thing and checks it: files and runs, by calls and by WebSocket, a virtual
folder, and a session of the type batch beside it. At a moment of one phase, chosen beforehand, a
part of the daemon is killed. All acts that the daemon had acknowledged must still be done. The
client repeats a call without a response, as clients do when a connection breaks. There are two
kinds of client: a plain one just calls again, and an exact one sends its offset with each call.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from typing import Any

import httpx
from websockets.exceptions import WebSocketException

from ..waiting import Patience
from .service import COMES_BACK_S, Service, Victim

PHASES = (
    "create", "upload", "build", "output", "input", "queue", "stream", "folder", "batch",
    "download", "delete",
)  # fmt: skip

WITHIN_S = {"create": 0.3, "upload": 0.1, "build": 0.4, "output": 1.0, "input": 0.8, "queue": 1.0,
            "stream": 1.0, "folder": 0.3, "batch": 0.8, "download": 0.15,
            "delete": 0.3}  # fmt: skip
"""How long after the beginning of a phase the kill may come."""

WARM_WITHIN_S = 0.02
"""The same of the kill of a warm shim, which takes the run of the phase at its beginning."""

OF_RUNS: tuple[Victim, ...] = ("shim", "init", "prepared", "warm")
"""Processes that a run may have, or have got when the kill comes: it may end with them."""

OUTPUT = "echo output >> begun; for i in $(seq 60); do echo line $i; sleep 0.01; done; exit 7"
STREAM = OUTPUT.replace("echo output", "echo stream")
INPUT = "echo input >> begun; read a; echo got $a; read b; echo got $b; exit 3"


@dataclass(frozen=True, slots=True)
class Point:
    """The victim of the kill, its moment, and the kind of client that notices it."""

    victim: Victim
    phase: str
    delay: float
    exact: bool

    @classmethod
    def chosen(cls, by: random.Random) -> Point:
        """One of all that there are."""
        victims: list[Victim] = [
            "api", "warden", "both", "both", "term", "shim", "init", "spawner", "prepared", "warm"
        ]  # fmt: skip
        victim = by.choice(victims)
        phase = by.choice(["build", "output", "input"] if victim in OF_RUNS else list(PHASES))
        within_s = WARM_WITHIN_S if victim == "warm" else WITHIN_S[phase]
        return cls(victim, phase, by.uniform(0, within_s), by.random() < 0.5)


class Life:
    """One session of `service`, with one kill."""

    def __init__(self, service: Service, name: str, point: Point, by: random.Random) -> None:
        self.service, self.name, self.point = service, name, point
        self.http = service.client()
        self.id = ""
        self.folder = f"{name}-kept"
        self.files = {f"d{n}/f{n}": by.randbytes(by.randrange(1, 60_000)) for n in range(4)}
        self.files["mk.sh"] = b"echo build >> begun\nfor i in 1 2 3; do echo $i; sleep 0.05; done\n"
        self.hit: set[str] = set()  # phases whose run may have been killed itself

    def live(self) -> None:
        """All of it. Raises AssertionError for the first promise that was broken."""
        with self.http:
            for phase in PHASES:
                killer = self._arm(phase)
                try:
                    getattr(self, f"_{phase}")()
                finally:
                    if killer:
                        killer.join()

    def _arm(self, phase: str) -> threading.Thread | None:
        if phase != self.point.phase:
            return None
        if self.point.victim in OF_RUNS:
            self.hit.add(phase)
        killer = threading.Thread(target=self._kill)
        killer.start()
        return killer

    def _kill(self) -> None:
        time.sleep(self.point.delay)
        self.service.kill(self.point.victim, self.id)

    # -- requests

    def _ask(self, method: str, path: str, **more: Any) -> tuple[httpx.Response, bool]:
        """The answer, after as many attempts as it takes; whether there were several."""
        patience = Patience(lambda: f"{method} {path}: {self.service.said()}", COMES_BACK_S)
        again = False
        while True:
            try:
                answer = self.http.request(method, path, **more)
                if answer.status_code != 503:
                    return answer, again
            except httpx.TransportError:
                pass
            again = True
            patience.pause()

    def _create(self) -> None:
        answer, again = self._ask("POST", "/folders", json={"name": self.folder, "quota": "16m"})
        assert answer.status_code == 201 or (again and answer.status_code == 400), answer.text
        self.id = self._session(self.name)

    def _session(self, name: str, **more: Any) -> str:
        """The UUID of a session in which the folder is mounted."""
        body = {"name": name, "image": "c", "config": {"mounts": [self.folder]}} | more
        answer, _ = self._ask("POST", "/session", json=body)
        assert answer.status_code in (200, 201), answer.text
        return str(answer.json()["sessionId"])

    def _upload(self) -> None:
        files = [("src", (name, data)) for name, data in self.files.items()]
        answer, _ = self._ask("POST", f"/session/{self.id}/upload", files=files)
        assert answer.status_code == 204, answer.text

    def _build(self) -> None:
        self._expect(self._run("build", {"build": "sh mk.sh"}), "1\n2\n3\n", 0, "build")

    def _output(self) -> None:
        printed = "".join(f"line {number}\n" for number in range(1, 61))
        self._expect(self._run("output", {"exec": OUTPUT}), printed, 7, "output")

    def _input(self) -> None:
        reply = self._run("input", {"exec": INPUT}, ["one", "two"])
        self._expect(reply, "got one\ngot two\n", 3, "input")

    def _queue(self) -> None:
        for name in ("first", "second"):
            options = {"exec": f"echo {name} >> begun; sleep 0.4; echo {name}"}
            call = {"mode": "batch", "code": "", "runId": name, "options": options}
            answer, _ = self._ask("POST", f"/session/{self.id}", json=call)
            assert answer.status_code == 200, answer.text
        for name in ("second", "first"):
            reply = self._follow({"mode": "continue", "code": "", "runId": name, "options": {}}, [])
            self._expect(reply, None, 0, "queue")

    def _stream(self) -> None:
        """By WebSocket, taken up at the offset where the connection broke."""
        options: dict[str, Any] = {"exec": STREAM}
        call = {"mode": "batch", "code": "", "runId": "stream", "options": options}
        printed, place = "", {"console": 0, "steps": 0}
        patience = Patience(lambda: (printed, self.service.said()), COMES_BACK_S)
        while True:
            try:
                for frame in self.service.frames(f"/stream/session/{self.id}/execute", call):
                    if "offset" not in frame:
                        break  # the daemon ends
                    printed += "".join(text for kind, text in frame["console"] if kind == "stdout")
                    place = frame["offset"]
                    if frame["status"] == "finished":
                        wanted = "".join(f"line {number}\n" for number in range(1, 61))
                        self._expect((printed, frame), wanted, 7, "stream")
                        return
                    call["mode"] = "continue"
            except (OSError, WebSocketException):
                pass
            options["offset"] = place
            patience.pause()

    def _folder(self) -> None:
        command = f"echo folder >> begun; cp d0/f0 {self.folder}/file; echo kept"
        self._expect(self._run("folder", {"exec": command}), "kept\n", 0, "folder")

    def _batch(self) -> None:
        """A session beside this one that does its command by itself, with the same folder."""
        command = f"echo batch >> {self.folder}/begun; sleep 0.3; echo done"
        id = self._session(f"{self.name}-batch", type="batch", startupCommand=command)
        query = "query($id: UUID!) { compute_session(id: $id) { result } }"
        patience = Patience(self.service.said, COMES_BACK_S)
        result = "UNDEFINED"
        while result == "UNDEFINED":
            call = {"query": query, "variables": {"id": id}}
            answer, _ = self._ask("POST", "/admin/gql", json=call)
            result = answer.json()["data"]["compute_session"]["result"]
            patience.pause()
        logs, _ = self._ask("GET", f"/session/_/logs?taskId={id}")
        assert (result, logs.text) == ("SUCCESS", "done\n")
        self._end(f"/session/{id}", 200)

    def _folder_file(self, name: str) -> bytes:
        """A file of the folder; tokens do not outlive the daemon, so both calls are repeated."""
        patience = Patience(lambda: answer.text, COMES_BACK_S)
        while True:
            token, _ = self._ask(
                "POST", f"/folders/{self.folder}/request-download", json={"path": name}
            )
            assert token.status_code == 200, token.text
            path = f"{token.json()['url']}?token={token.json()['token']}"
            answer, _ = self._ask("GET", path)
            if answer.status_code == 200:
                return answer.content
            patience.pause()

    def _download(self) -> None:
        for name, data in self.files.items():
            answer, _ = self._ask("GET", f"/session/{self.id}/download_single?file={name}")
            assert answer.status_code == 200 and answer.content == data, (name, answer.status_code)
        answer, _ = self._ask("GET", f"/session/{self.id}/download_single?file=begun")
        begun = answer.text.split() if answer.status_code == 200 else []
        for phase in ("build", "output", "input", "first", "second", "stream", "folder"):
            times = begun.count(phase)
            assert times == 1 or (times == 0 and phase in self.hit), f"{phase} ran {times} times"

    def _delete(self) -> None:
        self._end(f"/session/{self.id}", 200)
        assert self._folder_file("file") == self.files["d0/f0"]
        assert self._folder_file("begun") == b"batch\n"
        self._end(f"/folders/{self.folder}", 204)

    def _end(self, path: str, status: int) -> None:
        answer, again = self._ask("DELETE", path)
        assert answer.status_code == status or (again and answer.status_code == 404), answer.text

    # -- runs

    def _run(
        self, name: str, options: dict[str, Any], answers: list[str] | None = None
    ) -> tuple[str, dict[str, Any]]:
        call = {"mode": "batch", "code": "", "runId": name, "options": options}
        return self._follow(call, answers or [])

    def _follow(self, call: dict[str, Any], answers: list[str]) -> tuple[str, dict[str, Any]]:
        """The output of the run, and its last result."""
        printed = ""
        patience = Patience(lambda: (printed, result, self.service.said()), COMES_BACK_S)
        while True:
            result = self._call(call)
            if result is None:  # the input may have been taken, or not: see what it does
                call |= {"mode": "continue", "code": ""}
                continue
            printed += "".join(text for kind, text in result["console"] if kind == "stdout")
            if result["status"] in ("finished", "exec-timeout"):
                return printed, result
            patience.pause(0)
            options = {"offset": result["offset"]} if self.point.exact else {}
            call = {"mode": "continue", "code": "", "runId": call["runId"], "options": options}
            if result["status"] == "waiting-input":
                call |= {"mode": "input", "code": answers[printed.count("got ")]}

    def _call(self, call: dict[str, Any]) -> dict[str, Any] | None:
        """The result of one call; None: it was input, and the connection broke."""
        path = f"/session/{self.id}"
        if call["mode"] != "input":
            answer, _ = self._ask("POST", path, json=call)
        else:
            try:
                answer = self.http.post(path, json=call)
            except httpx.TransportError:
                return None
            if answer.status_code == 503:
                return None
        assert answer.status_code == 200, answer.text
        result: dict[str, Any] = answer.json()["result"]
        return result

    def _expect(
        self, reply: tuple[str, dict[str, Any]], printed: str | None, code: int, phase: str
    ) -> None:
        text, result = reply
        if phase in self.hit and result["exitCode"] == -1:
            logs = [data[3] for kind, data in result["console"] if kind == "log"]
            assert printed is not None and printed.startswith(text) and logs, (text, result)
            return
        assert result["exitCode"] == code, result
        assert printed is None or text == printed, f"printed {text!r}, not {printed!r}"
