"""A machine of which the tests are the only user: commands, units, the installed service."""

from __future__ import annotations

import glob
import os
import subprocess
from pathlib import Path
from typing import Any

import httpx

from ..processes import titles
from ..waiting import Patience

CHECKOUT = Path(__file__).parent.parent.parent
SOCKET = "/run/sandboxd/api.sock"
RUNS = Path("/sys/fs/cgroup/system.slice/sandboxd-runs.service")
BEFORE = Path("/root/before-the-installation")
"""The names that there were, for the test that nothing is left."""

COUNT = "i=0; until [ -e stop ]; do echo line $((i+=1)); sleep 0.25; done; echo stopped; exit 7"
"""A program that goes on until there is a file `stop`."""


def sh(command: str, code: int = 0) -> str:
    """The output of a shell command; its exit code must be `code`."""
    done = subprocess.run(
        command, shell=True, cwd=CHECKOUT, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environ(),
    )  # fmt: skip
    print(done.stdout)
    assert done.returncode == code, f"{command}: {done.returncode}\n{done.stdout}"
    return done.stdout


def environ() -> dict[str, str]:
    """As a login shell of root has it: nothing of the test's own packages."""
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}


def show(unit: str, name: str) -> str:
    """A property of a unit."""
    return sh(f"systemctl show --property {name} --value {unit}").strip()


def count(event: str) -> int:
    """How often the daemon has logged this event, since the machine was started."""
    return sh("journalctl --unit sandboxd --boot --output cat").count(f"event={event} ")


def client() -> httpx.Client:
    """Of the installed service."""
    transport = httpx.HTTPTransport(uds=SOCKET)
    return httpx.Client(transport=transport, base_url="http://local", timeout=90)


CUT_FILES = {f"d/file{number}": bytes([65 + number]) * 50_000 for number in range(6)}
"""The files that were uploaded before the power was cut."""


def begin(http: httpx.Client, name: str, command: str, **more: Any) -> str:
    """A new session of this name, with a run that has begun; its console so far."""
    response = http.post("/session", json={"name": name, "image": "c"} | more)
    assert response.status_code == 201, response.text
    options = {"exec": command, "timeout": 1800}
    call = {"mode": "batch", "code": "", "runId": f"run-{name}", "options": options}
    return _printed(_answer(http, name, call))


def proceed(http: httpx.Client, name: str, run: str = "") -> tuple[str, dict[str, Any]]:
    """Follow a run of a session, by default that of `begin`, from where its client was: console,
    and the last answer."""
    text = ""
    patience = Patience("the run does not end", 240)
    while True:
        result = _answer(
            http, name, {"mode": "continue", "code": "", "runId": run or f"run-{name}"}
        )
        text += _printed(result)
        if result["status"] in ("finished", "exec-timeout"):
            return text, result
        patience.pause(0)


def end(http: httpx.Client, name: str, begun: str) -> None:
    """Tell the COUNT of a session to stop: its client has the whole console, each line once, and
    its exit code."""
    answer = http.post(f"/session/{name}/upload", files={"src": ("stop", b"")})
    assert answer.status_code in (200, 204), answer.text
    text, last = proceed(http, name)
    *lines, stopped = (begun + text).splitlines()
    assert lines == [f"line {number + 1}" for number in range(len(lines))]
    assert (stopped, last["exitCode"]) == ("stopped", 7)
    assert http.delete(f"/session/{name}").status_code == 200


def _answer(http: httpx.Client, name: str, call: dict[str, Any]) -> dict[str, Any]:
    answer = http.post(f"/session/{name}", json=call)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()["result"]
    return result


def _printed(result: dict[str, Any]) -> str:
    return "".join(item[1] for item in result["console"] if item[0] == "stdout")


def groups() -> list[str]:
    """The cgroups of runs."""
    return [path for path in glob.glob(f"{RUNS}/slot-*/*.*") if os.path.isdir(path)]


def processes() -> dict[int, str]:
    """Pid -> title of what is sandboxd's."""
    return titles("sandboxd: ")


def names() -> set[str]:
    """Every file of the machine where an installation may have put one."""
    paths: set[str] = set()
    for top in ("/etc", "/opt", "/usr", "/var", "/run/sandboxd", "/root", "/home"):
        for directory, directories, files in os.walk(top):
            # /var/backups: what the machine does of itself each day, of which the tests make many
            others = ("/opt/checkout", "/opt/tape", "/var/log", "/var/tmp", "/var/backups")
            if directory.startswith(others):
                directories.clear()
                continue
            paths.update(f"{directory}/{name}" for name in (*directories, *files))
    return {name for name in paths if "__pycache__" not in name}
