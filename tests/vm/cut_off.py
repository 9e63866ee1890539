"""The promises made after the first boot, before the power goes; rebooted.py looks for them.

Nothing that the kernel has only in its memory outlives the loss of power.
"""

from __future__ import annotations

import time
from pathlib import Path

from ..waiting import until
from .host import CUT_FILES, begin, client, proceed, sh, show


def test_promises_are_made_and_the_power_is_cut() -> None:
    until(lambda: show("sandboxd.service", "ActiveState") == "active", 120)
    sh("sync")  # of earlier writes; no later write of this test is synced by hand
    with client() as http:
        for name in ("cut-gone", "cut-old"):
            response = http.post("/session", json={"name": name, "image": "c"})
            assert response.status_code == 201, response.text
        assert http.post("/folders", json={"name": "cut", "quota": "16m"}).status_code == 201
        config = {"mounts": ["cut"]}
        begin(http, "cut-kept", "echo told; exit 3", config=config)
        assert proceed(http, "cut-kept")[1]["exitCode"] == 3
        files = [("src", item) for item in CUT_FILES.items()]
        assert http.post("/session/cut-kept/upload", files=files).status_code == 204
        begin(http, "cut-active", "sleep 600")
        call = {"mode": "batch", "code": "", "runId": "queued", "options": {"exec": "echo begun"}}
        assert http.post("/session/cut-active", json=call).status_code == 200
        assert http.delete("/session/cut-gone").status_code == 200
        assert http.post("/session/cut-old/rename?name=cut-new").status_code in (200, 204)
    Path("/proc/sysrq-trigger").write_text("b")  # the kernel's: reset, at once
    time.sleep(60)
    raise AssertionError("the machine goes on")
