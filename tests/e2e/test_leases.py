"""Leases of uids on a host where other users and other daemons are."""

from __future__ import annotations

from pathlib import Path

from sandboxd.warden.uid_lease import lease_uid

from .daemon import FIRST_UID, running

COUNT = 4
FIRST = FIRST_UID + 64
CONFIG = f"[slots]\nfirst_uid = {FIRST}\ncount = {COUNT}\n"


def test_uids_that_another_daemon_holds_are_given_to_no_session(folder: Path) -> None:
    held = [lease_uid(FIRST + number) for number in range(COUNT - 1)]
    try:
        with running(folder, CONFIG) as daemon, daemon.client() as http:
            id = http.post("/session", json={"image": "c"}).json()["sessionId"]
            assert (daemon.state / f"slots/{COUNT - 1}/session").read_text() == id
            refusal = http.post("/session", json={"image": "c"})
            assert refusal.status_code == 503, refusal.text
            assert http.delete(f"/session/{id}").status_code == 200
    finally:
        for lease in held:
            assert lease
            lease.close()
