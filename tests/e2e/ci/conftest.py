"""Real CI systems whose jobs run in sessions: an unprivileged user of the host runs the system, and
the daemon is one of its own. The systems are installed by scripts/ci-systems.

The quick ones of these tests have no mark `world`, so scripts/test runs them too.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxd.jail.idmap import Ids
from sandboxd.warden.slots.workspaces import User

from ... import needs
from ...users import ROOT, command_of
from ...workspaces import own
from ..conftest import passable
from ..daemon import SLOTS, Daemon, running
from .user import CiUser

USER = User(Ids(61011, 62011), (62011,))
"""The CI user, of no account. Uid and gid differ."""

NOT_HERE = 3
"""Exit status of scripts/ci-systems when the host lacks what the system runs on."""


def programs(system: str, needed: str) -> str:
    """The directory of a system's programs, after it was installed if need be."""
    command = [str(ROOT / "scripts" / "ci-systems"), system]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=600)
    if result.returncode == NOT_HERE:
        needs.missing(f"{system} needs {needed}, which this host does not have")
    assert result.returncode == 0
    return result.stdout.strip()


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """A daemon with workspaces below `builds`, for a few sessions at once."""
    with passable() as folder:
        (folder / "builds").mkdir()
        own(folder / "builds", USER, 0o755)
        config = f'[workspaces]\npaths = ["{folder}/builds"]\n[admission.owner]\nsessions = 4\n'
        with running(folder, config + SLOTS) as started:
            (folder / "api.sock").chmod(0o666)
            yield started


@pytest.fixture
def user(daemon: Daemon, request: pytest.FixtureRequest) -> Iterator[CiUser]:
    """The CI user. After the test no session is left, and no process of the user."""
    home = daemon.folder / "builds" / f"home-{abs(hash(request.node.nodeid))}"
    home.mkdir()
    own(home, USER, 0o755)
    (home / "bin").mkdir()
    program = home / "bin" / "sandboxd"
    program.write_text(f'#!/bin/sh\nexec {command_of(USER.ids.uid)} "$@"\n')
    program.chmod(0o755)
    one = CiUser(daemon, home, USER.ids)
    yield one
    one.end()
    one.nothing_left()
    left = [path for path in home.rglob("*") if path.lstat().st_mode & 0o6000 and path.is_file()]
    assert left == [], "no set-user-ID or set-group-ID file"


@pytest.fixture
def wordcount(user: CiUser) -> Path:
    """A repository of the user with the example of that name."""
    place = user.home / "wordcount"
    shutil.copytree(ROOT / "examples" / "wordcount", place)
    for path in (place, *place.rglob("*")):
        own(path, USER)
    return user.repository(place)
