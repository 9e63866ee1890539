"""Leases of uids on a host where other users and other daemons are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sandboxd.warden.uid_lease import lease_uid

from .daemon import FIRST_UID, running

COUNT = 4
FIRST = FIRST_UID + 64
CONFIG = f"[slots]\nfirst_uid = {FIRST}\ncount = {COUNT}\n"
NAMES = """
import socket, sys
sockets = []
for uid in range(int(sys.argv[1]), int(sys.argv[1]) + int(sys.argv[2])):
    sockets.append(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    sockets[-1].bind(f"\\0sandboxd/uid/{uid}")
print("bound", flush=True)
sys.stdin.read()
"""


def test_user_of_the_host_who_binds_all_names_of_leases_keeps_nobody_from_a_session(
    folder: Path,
) -> None:
    squatter = subprocess.Popen(
        [sys.executable, "-I", "-c", NAMES, str(FIRST), str(COUNT)], user=65534, group=65534,
        extra_groups=[], cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with squatter:
        assert squatter.stdout and squatter.stdout.readline() == "bound\n"
        with running(folder, CONFIG) as daemon, daemon.client() as http:
            ids = []
            for _ in range(COUNT):
                answer = http.post("/session", json={"image": "c"})
                assert answer.status_code == 201, answer.text
                ids.append(answer.json()["sessionId"])
            for id in ids:
                assert http.delete(f"/session/{id}").status_code == 200
        squatter.kill()


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
