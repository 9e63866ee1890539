"""A service that is upgraded and started again, over and over, while two jobs run.

A fault of one start among many shows only in a loop: SANDBOXD_ROUNDS says how long that is. A round
is an upgrade, or a restart, or a restart that fails of a mistake in the configuration and one after
the mistake is repaired. The socket unit has a drop-in with a second listener, as an operator may
have made it. A round that goes wrong is reported with what the journal has of it, and the loop goes
on, so that one run counts how often it happens.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ..waiting import until
from .host import CHECKOUT, COUNT, begin, client, end, groups, sh, show

ROUNDS = int(os.environ.get("SANDBOXD_ROUNDS", "4"))

CONFIG = Path("/etc/sandboxd/config.toml")
DROP_IN = Path("/etc/systemd/system/sandboxd.socket.d/network.conf")
INSTALL = "./scripts/install --wheels /opt/wheels"

FAULTS = ("api.crashed", "api.ended", "child.crashed", "Fatal Python error", "Traceback",
          "segfault at", "general protection", "status=11/SEGV", "code=dumped")  # fmt: skip
"""Texts that no line of the journal may have, of the service or of the kernel."""


@pytest.fixture(scope="module")
def service() -> Iterator[None]:
    """The installed service with two listeners; afterwards it is taken away."""
    sh(INSTALL)
    DROP_IN.parent.mkdir(parents=True)
    DROP_IN.write_text("[Socket]\nListenStream=127.0.0.1:8080\n")
    sh("systemctl daemon-reload && systemctl restart sandboxd.socket sandboxd.service")
    yield
    sh("/opt/sandboxd/current/bin/sandboxd-uninstall --purge")


def upgrade(number: int) -> None:
    """Install a version with another content, by the command of the README."""
    with (CHECKOUT / "sandboxd" / "errors.py").open("a") as file:
        file.write(f"# version {number}\n")
    before = os.readlink("/opt/sandboxd/current")
    sh(INSTALL)
    assert os.readlink("/opt/sandboxd/current") != before


def restart(number: int) -> None:
    """Start the service again."""
    sh("systemctl restart sandboxd")


def repair(number: int) -> None:
    """Start the service with a mistake in the configuration, and again without. The second start
    comes at another moment of systemd's own tries, one a second, in each round."""
    right = CONFIG.read_text()
    try:
        CONFIG.write_text(right + "\n[scratch]\nsize = 1\n")
        sh("systemctl restart sandboxd", code=1)
        assert len(groups()) == 2
        time.sleep(number * 0.37 % 4)
    finally:
        CONFIG.write_text(right)
    sh("systemctl restart sandboxd")


STEPS: tuple[Callable[[int], None], ...] = (upgrade, repair, restart, repair)


@contextmanager
def two_jobs(number: int) -> Iterator[None]:
    """Two programs that run meanwhile; their clients lose nothing of either."""
    names = [f"job-{number}-{letter}" for letter in "ab"]
    small = {"resources": {"mem": "256m"}}  # else an installation's first run waits for them
    with client() as http:
        begun = [begin(http, name, COUNT, config=small) for name in names]
    yield
    with client() as http:
        for name, console in zip(names, begun, strict=True):
            end(http, name, console)
    until(lambda: not groups())


def journal(since: str) -> str:
    """The lines of the service, of systemd about the service, and of the kernel since a cursor."""
    units = "--unit sandboxd.service --unit sandboxd.socket --unit sandboxd-runs.service"
    service = sh(f"journalctl --quiet --no-pager --after-cursor '{since}' {units}")
    return service + sh(f"journalctl --quiet --no-pager --after-cursor '{since}' --dmesg")


def cursor() -> str:
    """Where the journal ends now."""
    return sh("journalctl --quiet --lines 0 --show-cursor").split("-- cursor: ")[1].strip()


def test_no_upgrade_and_no_restart_fails_or_loses_anything(service: None) -> None:
    broken: list[str] = []
    for number in range(ROUNDS):
        step, since, began = STEPS[number % len(STEPS)], cursor(), time.monotonic()
        try:
            with two_jobs(number):
                step(number)
            wrong = ""
        except Exception as error:  # the loop goes on: how often it happens is what it finds out
            wrong = f"{type(error).__name__}: {error}"
        lines = journal(since)
        wrong = wrong or next((fault for fault in FAULTS if fault in lines), "")
        seconds = time.monotonic() - began
        report = f"round {number} {step.__name__} {seconds:.0f} s {wrong or 'good'}"
        os.write(2, f"{report}\n".encode())
        if wrong:
            broken.append(f"{report}\n{lines}")
            os.write(2, lines.encode())
            # systemd tries again by itself, each second.
            until(lambda: show("sandboxd.service", "ActiveState") == "active", 180)
            with client() as http:
                for letter in "ab":
                    http.delete(f"/session/job-{number}-{letter}")
    assert show("sandboxd.service", "ActiveState") == "active"
    assert broken == [], "\n\n".join(broken)
