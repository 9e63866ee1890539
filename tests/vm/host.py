"""A machine of which the tests are the only user: commands, units, the installed service."""

from __future__ import annotations

import glob
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

CHECKOUT = Path(__file__).parent.parent.parent
SOCKET = "/run/sandboxd/api.sock"
RUNS = Path("/sys/fs/cgroup/system.slice/sandboxd-runs.service")
BEFORE = Path("/root/before-the-installation")
"""The names that there were, for the test that nothing is left."""

COUNT = "i=0; while [ $i -lt {n} ]; do i=$((i+1)); echo line $i; sleep 0.25; done; exit 7"


def sh(command: str, code: int = 0) -> str:
    """What a shell command prints; its exit code must be `code`."""
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


def until(true: Callable[[], Any], seconds: float = 60) -> None:
    """Wait for something."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it does not come to be"
        time.sleep(0.2)


def client() -> httpx.Client:
    """Of the installed service."""
    transport = httpx.HTTPTransport(uds=SOCKET)
    return httpx.Client(transport=transport, base_url="http://local", timeout=90)


def begin(http: httpx.Client, name: str, command: str) -> str:
    """A new session of this name, with a run that has begun; the run's id."""
    made = http.post("/session", json={"name": name, "image": "c"})
    assert made.status_code == 201, made.text
    call = {"mode": "batch", "code": "", "runId": f"run-{name}", "options": {"exec": command}}
    answer = http.post(f"/session/{name}", json=call)
    assert answer.status_code == 200, answer.text
    return f"run-{name}"


def proceed(http: httpx.Client, name: str) -> tuple[str, dict[str, Any]]:
    """Follow the run of a session from where its client was: console, and the last answer."""
    text = ""
    deadline = time.monotonic() + 180
    while True:
        call = {"mode": "continue", "code": "", "runId": f"run-{name}"}
        answer = http.post(f"/session/{name}", json=call)
        assert answer.status_code == 200, answer.text
        result = answer.json()["result"]
        text += "".join(item[1] for item in result["console"] if item[0] == "stdout")
        if result["status"] == "finished":
            return text, result
        assert time.monotonic() < deadline, "the run does not end"


def groups() -> list[str]:
    """The cgroups of runs."""
    return [path for path in glob.glob(f"{RUNS}/*.*") if os.path.isdir(path)]


def processes() -> dict[int, str]:
    """Pid -> title of what is sandboxd's."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            title = path.read_bytes().rstrip(b"\0").decode(errors="replace")
        except OSError:
            continue
        if title.startswith("sandboxd: "):
            found[int(path.parent.name)] = title
    return found


def names() -> set[str]:
    """Every file of the machine where an installation may have put one."""
    found: set[str] = set()
    for top in ("/etc", "/opt", "/usr", "/var", "/run/sandboxd", "/root", "/home"):
        for directory, directories, files in os.walk(top):
            if directory.startswith(("/opt/checkout", "/opt/tape", "/var/log", "/var/tmp")):
                directories.clear()
                continue
            found.update(f"{directory}/{name}" for name in (*directories, *files))
    return {name for name in found if "__pycache__" not in name}
