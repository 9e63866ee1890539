"""Good and bad values for the arguments and fields of the table of the warden's requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sandboxd.config.settings import STEP_LIMITS
from sandboxd.model import MAY_BE_ZERO, MIB, SCRATCH_MAX, SCRATCH_MIN, SLOTS_MAX, STEPS
from sandboxd.wire.ops import COMMANDS_MAX

SESSION = "00000000-0000-4000-8000-000000000001"
FOLDER = "00000000-0000-4000-8000-000000000002"
ATTACHMENT = {"folder": FOLDER, "name": "data", "read_only": False}
NETWORK = {"owner": "AKIA", "profile": "packages", "hosts": ["index.example:443"]}
LIMITS = asdict(STEP_LIMITS)
WORKSPACE = {"path": "/srv/ci/x", "place": "src", "uid": 1000, "gid": 100, "seal": "ab"}


def steps(command: Any = "true", **limits: Any) -> list[dict[str, Any]]:
    return [{"name": name, "command": command, "limits": LIMITS | limits} for name in STEPS]


VALID: dict[str, Any] = {
    "slot": 3, "session": SESSION, "run": 1, "runs": [1, 2], "size": 64 * MIB, "inodes": 4096,
    "attachments": [ATTACHMENT], "shell": "/bin/bash", "steps": steps(), "environ": {"A": "b"},
    "terminal": False, "interactive": False, "runtime": "c", "begun": False, "folder": FOLDER,
    "vitals": {}, "there": True, "network": NETWORK, "owner": "AKIAOWNER",
    "workspace": WORKSPACE, "path": "/srv/ci/x", "place": "src",
    "uid": 1000, "gid": 100, "seal": "ab",
}  # fmt: skip
"""A good value for each argument and field of the table."""

LONE = "/srv/\ud800"
"""A path with half of a surrogate pair: JSON can have it, a system call cannot."""

NOT_TEXT: tuple[Any, ...] = (None, 7, 1.5, True, [], {}, LONE)
NOT_UUID = (*NOT_TEXT, "", "no-uuid", "../..", SESSION + "0")
NOT_BOOLEAN: tuple[Any, ...] = (None, 0, 1, "true", [], {})


def not_in(least: int, most: int) -> tuple[Any, ...]:
    return (None, "1", 1.0, True, [], {}, least - 1, most + 1, -1, float("nan"), 1 << 70)


NOT_LIMIT: tuple[Any, ...] = (
    0, -1, None, "1", True, [], float("nan"), float("inf"), 1 << 70
)  # fmt: skip

NOT_PLACE: tuple[Any, ...] = (None, 7, "..", ".hidden", "a/b", "../up", "n" * 65, "a\0", [], {})
NOT_PATH: tuple[Any, ...] = (
    *NOT_TEXT, "", "/", "x", "srv/x", "//srv/x", "/srv//x", "/srv/x/", "/srv/./x", "/srv/../x",
    "/srv/x/..", "/srv/x\0", "/" + "x" * 4095,
)  # fmt: skip
NOT_ID = not_in(1, 0xFFFFFFFE)

BAD: dict[str, Sequence[Any]] = {
    "path": NOT_PATH,
    "place": NOT_PLACE,
    "uid": NOT_ID,
    "gid": NOT_ID,
    "seal": NOT_TEXT,
    "workspace": (
        False, 7, "x", [], {}, [WORKSPACE], WORKSPACE | {"extra": 1},
        *({name: value for name, value in WORKSPACE.items() if name != gone} for gone in WORKSPACE),
        *(WORKSPACE | {"path": path} for path in NOT_PATH),
        *(WORKSPACE | {"place": place} for place in (*NOT_PLACE, "data")),
        *(WORKSPACE | {name: value} for name in ("uid", "gid") for value in (*NOT_ID, 0)),
        *(WORKSPACE | {"seal": seal} for seal in NOT_TEXT),
    ),
    "slot": not_in(0, SLOTS_MAX - 1),
    "session": NOT_UUID,
    "folder": NOT_UUID,
    "run": (*not_in(1, 1 << 53), "../../x"),
    "runs": (None, 1, "1", {}, [0], [-1], [True], ["1"], [1.5], [None], [1 << 54], [[1]]),
    "size": not_in(SCRATCH_MIN, SCRATCH_MAX),
    "inodes": not_in(16, 1 << 31),
    "shell": (*NOT_TEXT, "", "/bin/zsh", "bash", "/bin/sh\n"),
    "runtime": NOT_TEXT, "owner": NOT_TEXT,
    "terminal": NOT_BOOLEAN,
    "interactive": NOT_BOOLEAN,
    "begun": NOT_BOOLEAN,
    "there": NOT_BOOLEAN,
    "vitals": (None, 1, "x", True, []),
    "environ": (
        None, [], "A=b", {"A": 1}, {"A": None}, {"A=B": "x"}, {"": "x"}, {"A": "x\0y"},
        {"A\0": "x"}, {"A": "x" * COMMANDS_MAX}, {"A": "\ud800"},
    ),
    "steps": (
        None, {}, "true", [], steps()[:2], steps() * 2, steps()[::-1], [None] * 3, [{}] * 3,
        steps(7), steps(["true"]), steps("a\0b"), steps("\ud800"), steps("x" * COMMANDS_MAX),
        [step | {"limits": None} for step in steps()],
        [step | {"extra": 1} for step in steps()],
        [step | {"limits": {**LIMITS, "extra": 1}} for step in steps()],
        *(
            steps(**{name: value}) for name in LIMITS for value in NOT_LIMIT
            if value != 0 or name not in MAY_BE_ZERO
        ),
        *([step | {"limits": {k: v for k, v in LIMITS.items() if k != name}} for step in steps()]
          for name in LIMITS),
    ),
    "attachments": (
        None, {}, "data", ["data"], [{}], [None], [ATTACHMENT | {"extra": 1}],
        [ATTACHMENT | {"read_only": "yes"}], [ATTACHMENT | {"read_only": None}],
        *([ATTACHMENT | {"folder": folder}] for folder in NOT_UUID),
        *([ATTACHMENT | {"name": name}] for name in
          (None, 7, "", "..", ".hidden", "a/b", "../up", "n" * 65, "new\nline", "a\0")),
        [ATTACHMENT, ATTACHMENT | {"folder": SESSION}],
        [ATTACHMENT, ATTACHMENT | {"name": "other"}],
        [{"folder": f"{SESSION[:-1]}{n}", "name": f"f{n}", "read_only": True} for n in range(6)],
    ),
    "network": (
        7, True, "packages", [], {}, [NETWORK], NETWORK | {"extra": 1}, NETWORK | {"hosts": None},
        NETWORK | {"hosts": "index.example:443"}, NETWORK | {"hosts": [443]},
        NETWORK | {"owner": None}, NETWORK | {"profile": 7},
        NETWORK | {"owner": LONE}, NETWORK | {"profile": LONE}, NETWORK | {"hosts": [LONE]},
    ),
}  # fmt: skip
"""Values that each argument and field must not have: of another type, out of range, malformed."""
