"""Leases of uids on a host where other users and other daemons are."""

from __future__ import annotations

from pathlib import Path

from sandboxd.warden.uid_lease import lease_uid

from .daemon import running
from .own_leaks import first_uid

COUNT = 4


def test_uids_that_another_daemon_holds_are_given_to_no_session(folder: Path) -> None:
    first = first_uid() + 64
    config = f"[slots]\nfirst_uid = {first}\ncount = {COUNT}\n"
    held = [lease_uid(first + number) for number in range(COUNT - 1)]
    try:
        with running(folder, config) as daemon, daemon.client() as http:
            id = http.post("/session", json={"image": "c"}).json()["sessionId"]
            assert (daemon.state / f"slots/{COUNT - 1}/session").read_text() == id
            refusal = http.post("/session", json={"image": "c"})
            assert refusal.status_code == 503, refusal.text
            assert http.delete(f"/session/{id}").status_code == 200
    finally:
        for lease in held:
            assert lease
            lease.close()
