"""The limits of a configuration that this host cannot give: they are lowered at the start.

A default for tasks follows the tasks that the host can promise, so that a run without limits of its
own can begin on a small host. A client that asks for more than the host has is refused instead
(api/admission/admission.py): a program that needs the tasks would fail later.

The open files of a run follow fs.file-max, which bounds all processes without root: half of it is
the most that one run can have.
"""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

from .. import log
from ..config.settings import Config, StepLimitsConfig
from ..host.tasks import OWN_TASKS, HostTasks
from ..model import STEPS, Limits, within_files


def within_host(config: Config, tasks: HostTasks) -> Config:
    """The configuration with limits that this host can give. Logs each change."""
    pids = max(1, int(config.admission.tasks * tasks.most) - OWN_TASKS)
    half = file_max() // 2
    files = min(config.run_files or half, half)
    steps = {}
    for step in STEPS:
        limits = _lowered(f"limits.{step}", getattr(config.limits, step), pids=pids)
        within = within_files(limits, files).nofile
        steps[step] = _lowered(f"limits.{step}", limits, nofile=within)
    return dataclasses.replace(config, limits=StepLimitsConfig(**steps), run_files=files)


def file_max() -> int:
    """The bound of the kernel on open files of all processes without root (proc_sys_fs(5))."""
    return int(Path("/proc/sys/fs/file-max").read_text())


def _lowered(name: str, limits: Limits, **most: int) -> Limits:
    """`limits`, none of them above `most`."""
    lower = {key: value for key, value in most.items() if getattr(limits, key) > value}
    for key, value in lower.items():
        log.event(
            "limit.lowered", logging.WARNING, limit=f"{name}.{key}", wanted=getattr(limits, key),
            now=value, reason="this host has no more",
        )  # fmt: skip
    return dataclasses.replace(limits, **lower)
