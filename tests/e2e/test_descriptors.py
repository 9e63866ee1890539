"""A warden that has hardly a descriptor left: each request is refused, and none is its end."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from .daemon import run, running


def test_warden_with_next_to_no_descriptors_refuses_each_request_and_goes_on(folder: Path) -> None:
    with running(folder) as daemon, daemon.client() as http:
        http.post("/session", json={"image": "c", "name": "kept"}).raise_for_status()
        run(http, "kept", {"exec": "echo x > file"})
        assert daemon.process
        warden = daemon.process.pid
        _, most = resource.prlimit(warden, resource.RLIMIT_NOFILE)
        for spare in range(12):
            used = max(int(fd) for fd in os.listdir(f"/proc/{warden}/fd"))
            resource.prlimit(warden, resource.RLIMIT_NOFILE, (used + 1 + spare, most))
            call = {"mode": "batch", "runId": f"r{spare}", "options": {"exec": "echo x"}}
            for answer in (
                http.post("/session/kept", json=call),
                http.post("/session", json={"image": "c", "name": f"more{spare}"}),
                http.post("/folders", json={"name": f"more{spare}", "quota": "16m"}),
                http.get("/session/kept/download_single?file=file"),
                http.get("/admin/leaks"),
                http.delete(f"/session/more{spare}"),
            ):
                assert answer.status_code in (200, 201, 404, 503), answer.text
            resource.prlimit(warden, resource.RLIMIT_NOFILE, (most, most))
        assert daemon.process.poll() is None
        assert run(http, "kept", {"exec": "cat file"}).text("stdout") == "x\n"
        for spare in range(12):
            assert http.delete(f"/session/more{spare}").status_code in (200, 404)
            assert http.delete(f"/folders/more{spare}").status_code in (204, 404)
        assert http.delete("/session/kept").status_code == 200
        assert http.get("/admin/leaks").json()["slots"] == []
