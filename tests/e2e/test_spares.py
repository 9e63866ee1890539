"""Spares across kills, restarts, reloads and a full disk: no session gets the scratch of another,
and none is left behind."""

from __future__ import annotations

import os
import signal
import uuid
from pathlib import Path

import httpx
import pytest

from ..loop_devices import backing_files
from ..processes import descendants
from ..waiting import until
from .daemon import SLOTS, Daemon, configured, run, sessions_of, slots_in_use

SECRET = b"of a session that no client knows"
CONFIG = f"[scratch]\nspares = 2\n{SLOTS}"

pytestmark = pytest.mark.usefixtures("lasting")


def spares(daemon: Daemon) -> list[Path]:
    """The directories of the spares that are complete."""
    slots = (daemon.state / "slots").iterdir()
    names = [slot / "session" for slot in slots if slot.name not in sessions_of(daemon.state)]
    return sorted(name.parent for name in names if name.exists())


def two_spares(daemon: Daemon) -> list[Path]:
    until(lambda: len(spares(daemon)) == 2 and not slots_without(daemon))
    return spares(daemon)


def slots_without(daemon: Daemon) -> list[str]:
    """Slots that neither a session has nor a spare is."""
    return sorted(set(slots_in_use(daemon.state)) - sessions_of(daemon.state).keys())


def devices(daemon: Daemon) -> list[str]:
    """The images of this daemon that have a loop device."""
    return [name for name in backing_files() if name.startswith(str(daemon.state))]


def create(http: httpx.Client, name: str) -> str:
    id: str = (
        http.post("/session", json={"image": "c", "name": name})
        .raise_for_status()
        .json()["sessionId"]
    )
    return id


def job_processes(daemon: Daemon) -> list[int]:
    assert daemon.process
    return list(descendants(daemon.process.pid, "sandboxd: job"))


def test_kill_of_job_processes_at_work_costs_neither_slot_nor_session(
    daemon: Daemon,
) -> None:
    with daemon.client() as http:
        two_spares(daemon)
        create(http, "kept")
        create(http, "gone")
        run(http, "kept", {"exec": "echo here > file"})
        two_spares(daemon)
        pids = until(lambda: job_processes(daemon))
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        assert http.delete("/session/gone").status_code == 200, "nobody waits for the job"
        until(lambda: slots_without(daemon))
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        create(http, "next")
        assert run(http, "kept", {"exec": "cat file"}).text("stdout") == "here\n"
        until(lambda: not slots_without(daemon))
        for name in ("kept", "next"):
            assert http.delete(f"/session/{name}").status_code == 200


@pytest.mark.parametrize("victim", ["warden", "api", "both", "neither"])
def test_daemon_that_ends_with_spares_waiting_leaves_its_session_and_no_other_slot(
    daemon: Daemon, victim: str
) -> None:
    two_spares(daemon)
    with daemon.client() as http:
        id = create(http, "kept")
        run(http, "kept", {"exec": "echo precious > f"})
    two_spares(daemon)
    daemon.end(victim)
    if victim == "neither":
        assert sorted(sessions_of(daemon.state)) == slots_in_use(daemon.state)
        assert not spares(daemon)
    daemon.start()
    two_spares(daemon)
    assert list(sessions_of(daemon.state).values()) == [id]
    until(lambda: len(devices(daemon)) == 3)
    with daemon.client() as http:
        assert run(http, "kept", {"exec": "cat f"}).text("stdout") == "precious\n"
        http.delete("/session/kept").raise_for_status()


def test_spare_that_was_claimed_and_not_recorded_is_removed_at_the_next_start(
    daemon: Daemon,
) -> None:
    """The daemon was killed between the claim and the note in the database."""
    claimed = two_spares(daemon)[0]
    daemon.end("both")
    session = str(uuid.uuid4())
    (claimed / "session").write_text(session)
    with (claimed / "image").open("r+b") as image:
        image.seek(1 << 29)
        image.write(SECRET)
    daemon.start()
    two_spares(daemon)
    assert sessions_of(daemon.state) == {}
    with daemon.client() as http:
        report = http.get("/admin/leaks").json()
        assert report["strays"] == [] and report["slots"] == []
    for slot in spares(daemon):
        with (slot / "image").open("rb") as image:
            image.seek(1 << 29)
            assert image.read(len(SECRET)) != SECRET, "a later session would get its data"


def test_session_whose_claim_a_power_cut_has_taken_is_lost_and_gets_no_spare(
    daemon: Daemon,
) -> None:
    two_spares(daemon)
    with daemon.client() as http:
        create(http, "lost")
    (slot,) = sessions_of(daemon.state)
    daemon.end("both")
    (daemon.state / "slots" / slot / "session").write_text(" " * 36)
    daemon.start()
    two_spares(daemon)
    with daemon.client() as http:
        assert http.get("/session/lost").status_code == 404
        create(http, "lost")
        http.delete("/session/lost").raise_for_status()


@pytest.mark.parametrize("removed", [("session",), ("session", "image")])
def test_deletion_that_a_kill_has_cut_short_is_completed_at_the_next_start(
    daemon: Daemon, removed: tuple[str, ...]
) -> None:
    """The daemon was killed between the moment that the name left the disk and the removal."""
    two_spares(daemon)
    with daemon.client() as http:
        id = create(http, "gone")
        create(http, "kept")
    (slot,) = [slot for slot, name in sessions_of(daemon.state).items() if name == id]
    daemon.end("both")
    for name in removed:
        (daemon.state / "slots" / slot / name).unlink()
    daemon.start()
    two_spares(daemon)
    until(lambda: len(devices(daemon)) == 3)
    with daemon.client() as http:
        assert http.get("/session/gone").status_code == 404
        http.delete("/session/kept").raise_for_status()


@pytest.mark.parametrize("moment", range(4))
def test_kill_while_sessions_come_and_go_leaves_nothing(daemon: Daemon, moment: int) -> None:
    two_spares(daemon)
    with daemon.client() as http:
        for number in range(6):  # faster than spares are made
            create(http, f"session-{number}")
        for number in range(6 - moment):
            http.delete(f"/session/session-{number}").raise_for_status()
    daemon.end(["both", "warden", "both", "api"][moment])
    daemon.start()
    two_spares(daemon)
    assert len(sessions_of(daemon.state)) == moment
    until(lambda: len(devices(daemon)) == moment + 2)
    with daemon.client() as http:
        assert http.get("/admin/leaks").json()["strays"] == []
        for number in range(6 - moment, 6):
            http.delete(f"/session/session-{number}").raise_for_status()


def test_reload_changes_the_number_and_the_size_of_spares(daemon: Daemon) -> None:
    first = (daemon.folder / "config.toml").read_text()
    two_spares(daemon)
    try:
        for scratch, number in (("spares = 0", 0), ("spares = 1\nsize = 67108864", 1)):
            reload(daemon, configured(f'metrics = ""\n[scratch]\n{scratch}\n{SLOTS}'))
            while len(spares(daemon)) != number or slots_in_use(daemon.state):
                until(lambda: not slots_in_use(daemon.state))
        assert (spares(daemon)[0] / "image").stat().st_size == 64 << 20
        with daemon.client() as http:
            create(http, "small")
            assert run(http, "small", {"exec": "df -k . | tail -1"}).exits[-1] == 0
            http.delete("/session/small").raise_for_status()
    finally:
        reload(daemon, first)


def reload(daemon: Daemon, config: str) -> None:
    (daemon.folder / "config.toml").write_text(config)
    assert daemon.process
    daemon.process.send_signal(signal.SIGHUP)
