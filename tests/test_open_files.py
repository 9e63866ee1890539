"""The bound on the open files of a run: it follows fs.file-max, and no run can reach that."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from sandboxd.api.options import granted_limits
from sandboxd.config.settings import STEP_LIMITS, Config
from sandboxd.errors import StageError
from sandboxd.host.tasks import HostTasks
from sandboxd.model import NOFILE_MIN, within_files
from sandboxd.warden import host_limits
from sandboxd.warden.doctor.probes import machine


@hypothesis.given(st.integers(1, 5000), st.integers(NOFILE_MIN, 1 << 20), st.integers(1, 1 << 24))
def test_processes_of_a_run_never_open_more_than_the_bound_together(
    pids: int, nofile: int, bound: int
) -> None:
    limits = within_files(replace(STEP_LIMITS, pids=pids, nofile=nofile), bound)
    assert limits.nofile <= nofile
    assert limits.nofile * pids <= bound or limits.nofile == NOFILE_MIN
    if pids * nofile <= bound:
        assert limits.nofile == nofile, "lowered without need"


def test_run_of_many_processes_has_fewer_files_each_with_the_reason() -> None:
    wanted = {"pids": 1024, "nofile": 65536}
    limits, (clamp,) = granted_limits.step_limits(
        STEP_LIMITS, {}, wanted, Config().ceiling, 1_000_000
    )
    assert limits.nofile == 976
    assert (clamp.name, clamp.requested, clamp.granted) == ("nofile", 65536, 976)
    assert clamp.text == "from 65536 to 976: 1024 processes open at most 1000000 files together"


def test_run_of_few_processes_is_not_lowered() -> None:
    limits, clamps = granted_limits.step_limits(STEP_LIMITS, {}, {}, Config().ceiling, 1_233_091)
    assert (limits.nofile, clamps) == (4096, [])


@pytest.mark.parametrize(
    ("file_max", "configured", "files"),
    [(1000, 0, 500), (1000, 400, 400), (1000, 900, 500), ((1 << 63) - 1, 0, (1 << 62) - 1)],
)
def test_bound_follows_the_kernel(
    monkeypatch: pytest.MonkeyPatch, file_max: int, configured: int, files: int
) -> None:
    monkeypatch.setattr(host_limits, "file_max", lambda: file_max)
    config = replace(Config(), run_files=configured)
    assert host_limits.within_host(config, HostTasks(())).run_files == files


def test_doctor_names_the_sysctl_where_the_kernel_s_bound_is_low(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host: Any = SimpleNamespace(config=Config())
    monkeypatch.setattr(machine, "file_max", lambda: 1_638_400)
    assert "fs.file-max is 1638400" in machine.open_files(host)
    monkeypatch.setattr(machine, "file_max", lambda: 100_000)
    with pytest.raises(StageError) as refused:
        machine.open_files(host)
    assert refused.value.remedy.startswith("sysctl fs.file-max=1638400")
