"""A file helper that waits for its request, as the host sees it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from sandboxd.warden.runs.launcher import CPU_S

from ...processes import files
from ...sandbox import Sandbox
from ...waiting import until


def test_helper_sees_the_scratch_alone_as_the_slots_uid(sandbox: Sandbox) -> None:
    slot = sandbox.slot
    (fd,) = sandbox.warden.request("files", **sandbox.name).descriptors
    (helper,) = sandbox.warden.workers.all()
    proc = Path(f"/proc/{helper.pid}")
    with socket.socket(fileno=fd):
        try:
            _wait_until_it_serves(proc, slot.uid)
            status = dict(
                line.split(":\t", 1) for line in proc.joinpath("status").read_text().splitlines()
            )
            assert status["Uid"].split() == status["Gid"].split() == [str(slot.uid)] * 4
            assert status["Groups"].split() == [] and status["NoNewPrivs"] == "1"
            sets = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
            assert {status[name] for name in sets} == {"0" * 16}
            (mount,) = proc.joinpath("mountinfo").read_text().splitlines()
            assert {"nosuid", "nodev", "noexec"} <= set(mount.split()[5].split(","))
            until(lambda: _has_only_its_own(proc))  # it looks at the stages of others first
            limits = proc.joinpath("limits").read_text()
            for name, most in (
                ("core file size", 0), ("processes", 0), ("address space", 1 << 30),
                ("cpu time", CPU_S),
            ):  # fmt: skip
                assert f"Max {name}" in limits
                line = next(x for x in limits.splitlines() if x.startswith(f"Max {name}"))
                assert line.removeprefix(f"Max {name}").split()[:2] == [str(most)] * 2
        finally:
            helper.kill()
            os.waitpid(helper.pid, 0)
            sandbox.warden.workers.collected(helper.pid, 0)


def _wait_until_it_serves(proc: Path, uid: int) -> None:
    """Until it has its identity and its two places open."""
    until(
        lambda: (
            f"Uid:\t{uid}" in proc.joinpath("status").read_text()
            and "/stage/0" in files(int(proc.name)).values()
        )
    )


def _has_only_its_own(proc: Path) -> bool:
    """Besides its socket, it has only what is of its slot."""
    links = list(files(int(proc.name)).values())
    null, own = os.readlink("/proc/self/fd/2"), ("/work", "/stage/0", "/tmp")
    expected = {"/dev/null", null, *own, *(x for x in links if x.startswith("socket:"))}
    return set(links) == expected and len(links) == 7
