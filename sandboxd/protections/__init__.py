"""The list of protections: the means that hold programs, clients and the daemon in their bounds.

One entry names the mechanism, the modules that apply and verify it, what a host must be able to do
for it (`sandboxd doctor`), the attacks that show it (`sandboxd selftest`), the tests, and what
remains. Doctor, self-test, tests/escape and the table of docs/security.md are made from this list;
`scripts/docs` renews the table. tests/test_protections.py checks that what is named exists.
"""

from __future__ import annotations

from . import confinement, resources, service
from .protection import HostGuarantee, Protection

KINDS = {
    "files": "read or write files that are not the session's",
    "processes": "have rights, or see and reach processes that are not the run's",
    "network": "reach anything but the run itself",
    "kernel": "make system calls that lead out, or that only attackers need",
    "exhaustion": "use up memory, processes, disk and time",
    "persistence": "outlive the run or the session",
}
"""The kinds of attacks, and what an attacker would do."""

PROTECTIONS = (*confinement.PROTECTIONS, *resources.PROTECTIONS, *service.PROTECTIONS)

HOST_RESOURCES = (
    HostGuarantee(
        "host", "interpreter", "the unprivileged half can read Python and sandboxd",
        "use the system's python3, /usr/bin/python3",
    ),
    HostGuarantee("host", "clock", "signatures can be checked", "set the clock (NTP)"),
    HostGuarantee(
        "host", "disk", "there is room for a session", "free some, or lower scratch.size"
    ),
    HostGuarantee(
        "host", "memory", "there is room for a run", "free some, or lower limits.exec.memory"
    ),
    HostGuarantee(
        "host", "tasks", "the host has processes and threads for a run",
        "raise the bound that is named: sysctl kernel.pid_max or kernel.threads-max, or TasksMax= "
        "of the unit",
    ),
)  # fmt: skip
"""Rows of `sandboxd doctor` that protect nothing: resources that the daemon needs to serve."""


def guarantees() -> list[HostGuarantee]:
    """All rows of `sandboxd doctor`, each group together."""
    rows = [row for protection in PROTECTIONS for row in protection.guarantees]
    groups = ("isolation", "limits", "files", "host")
    return sorted([*rows, *HOST_RESOURCES], key=lambda row: groups.index(row.group))


def of_attack(name: str) -> list[Protection]:
    """The protections that an attack fails because of."""
    return [protection for protection in PROTECTIONS if name in protection.attacks]
