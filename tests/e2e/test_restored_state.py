"""A state that was put back with other owners and modes: closed again, or refused by name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..users import ALICE, acting_as
from .daemon import Daemon
from .own_leaks import leaks

Restored = Callable[[], str]


@pytest.fixture
def daemon(folder: Path) -> Iterator[Daemon]:
    """A daemon that has stopped, with a session in its state."""
    before = leaks()
    daemon = Daemon(folder, "[scratch]\nsize = 16777216\n")
    daemon.errors = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    daemon.start()
    with daemon.client() as http:
        assert http.post("/session", json={"image": "c", "name": "kept"}).status_code == 201
    assert daemon.stop() == 0
    try:
        yield daemon
    finally:
        daemon.purge()
        assert daemon.stop() == 0
        os.close(daemon.errors)
    assert leaks() <= before


@pytest.mark.root
def test_copy_that_everybody_can_read_is_closed_and_named_and_has_its_session(
    daemon: Daemon,
) -> None:
    copy = daemon.folder / "copy"
    shutil.copytree(daemon.state, copy, ignore_dangling_symlinks=True)
    shutil.rmtree(daemon.state)
    copy.rename(daemon.state)
    paths = [daemon.state / name for name in ("api", "api/sandboxd.sqlite", "slots", "folders")]
    for path in paths:
        path.chmod(0o755 if path.is_dir() else 0o644)
    daemon.start()
    log = (daemon.folder / "log").read_text()
    assert all(f"path={path} " in log for path in paths) and log.count("state.repaired") >= 4
    with acting_as(ALICE):
        for path in paths[:1] + paths[2:]:
            with pytest.raises(PermissionError):
                os.listdir(path)
    with daemon.client() as http:
        assert http.get("/session/kept").status_code == 200


@pytest.mark.root
@pytest.mark.parametrize("name", ["slots", "api/sandboxd.sqlite", "lock"])
def test_copy_of_another_user_stops_the_start_in_one_line_that_names_the_path(
    daemon: Daemon, name: str
) -> None:
    path = daemon.state / name
    before = os.stat(path)
    os.chown(path, ALICE, ALICE)
    size = (daemon.folder / "log").stat().st_size
    with pytest.raises(AssertionError, match="exit status 2"):
        daemon.start()
    (line,) = (daemon.folder / "log").read_text()[size:].splitlines()
    assert line.startswith(f"sandboxd: {path} belongs to another user (uid {ALICE}")
    os.chown(path, before.st_uid, before.st_gid)
