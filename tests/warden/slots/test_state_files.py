"""The files of the state are held at each start: repaired, or refused by name."""

from __future__ import annotations

import logging
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from sandboxd.config.settings import Config, SlotsConfig
from sandboxd.errors import ConfigError
from sandboxd.warden.slots import state_directory, state_files

API, OTHER = 719999, 4_200_001
DATABASE = [f"api/sandboxd.sqlite{end}" for end in ("", "-wal", "-shm", "-journal")]
DIRECTORIES = [*state_files.DIRECTORIES, "slots/3", "folders/f", "api"]
FILES = ["lock", "workspace.key", "blank/16.ext4", "slots/old", *DATABASE]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A state as a daemon leaves it."""
    for path in (tmp_path, *tmp_path.parents):
        if "pytest" in str(path):
            path.chmod(0o711)
    config = Config(
        state_dir=str(tmp_path / "state"), slots=SlotsConfig(first_uid=API + 1, count=2)
    )
    state_directory.make(config, API)
    state = Path(config.state_dir)
    for name in DIRECTORIES[:-1]:
        (state / name).mkdir(mode=0o700)
    for name in FILES:
        (state / name).touch(0o600)
    for name in DATABASE:
        os.chown(state / name, API, API)
    state_directory.make(config, API)
    return config


def mode(path: Path) -> tuple[int, int]:
    status = os.lstat(path)
    return stat.S_IMODE(status.st_mode), status.st_uid


def owner(name: str) -> int:
    return API if name.startswith("api") else 0


@pytest.mark.root
@pytest.mark.parametrize("name", [*DIRECTORIES, *FILES])
@pytest.mark.parametrize("others", [0o044, 0o055, 0o004, 0o040, 0o001])
def test_path_that_others_can_read_is_closed_and_named(
    config: Config, caplog: pytest.LogCaptureFixture, name: str, others: int
) -> None:
    path = Path(config.state_dir, name)
    path.chmod(0o700 | others if path.is_dir() else 0o600 | others)
    with caplog.at_level(logging.WARNING):
        state_directory.make(config, API)
    assert mode(path) == (0o700 if path.is_dir() else 0o600, owner(name))
    (line,) = [record for record in caplog.records if record.msg == "state.repaired"]
    assert line.__dict__["fields"]["path"] == str(path)
    caplog.clear()
    state_directory.make(config, API)
    assert not caplog.records, "a second start finds nothing to repair"


@pytest.mark.root
@pytest.mark.parametrize("name", [*DIRECTORIES, *FILES])
@pytest.mark.parametrize("others", [0o002, 0o022, 0o077])
def test_path_that_others_can_change_is_refused_by_name(
    config: Config, name: str, others: int
) -> None:
    path = Path(config.state_dir, name)
    path.chmod(0o600 | others)
    with pytest.raises(ConfigError, match=f"{path} can be changed by other users"):
        state_directory.make(config, API)


@pytest.mark.root
def test_path_that_the_group_of_root_can_change_is_repaired(config: Config) -> None:
    path = Path(config.state_dir, "slots")
    path.chmod(0o770)
    state_directory.make(config, API)
    assert mode(path) == (0o700, 0)
    path.chmod(0o770)
    os.chown(path, 0, OTHER)
    with pytest.raises(ConfigError, match="can be changed"):
        state_directory.make(config, API)


@pytest.mark.root
@pytest.mark.parametrize("name", [*DIRECTORIES[:-1], *FILES[:3], *DATABASE])
def test_path_of_another_user_is_refused_by_name(config: Config, name: str) -> None:
    path = Path(config.state_dir, name)
    os.chown(path, OTHER, OTHER)
    with pytest.raises(ConfigError, match=f"{path} belongs to another user") as refusal:
        state_directory.make(config, API)
    assert f"chown -R {owner(name)}:{owner(name)} {path}" in str(refusal.value)


@pytest.mark.root
def test_database_of_root_goes_to_the_api_and_stays_closed(config: Config) -> None:
    path = Path(config.state_dir, DATABASE[0])
    os.chown(path, 0, 0)
    path.chmod(0o644)
    state_directory.make(config, API)
    assert mode(path) == (0o600, API)


@pytest.mark.root
@pytest.mark.parametrize("name", [*DIRECTORIES, *FILES])
def test_link_in_place_of_a_path_is_refused_by_name_and_not_followed(
    config: Config, tmp_path: Path, name: str
) -> None:
    path, aim = Path(config.state_dir, name), tmp_path / "aim"
    if path.is_dir():
        shutil.rmtree(path)
        aim.mkdir(mode=0o755)
    else:
        path.unlink()
        aim.touch(0o644)
    aim.chmod(0o755)
    path.symlink_to(aim)
    with pytest.raises(ConfigError, match=f"{path} is a link"):
        state_directory.make(config, API)
    assert mode(aim) == (0o755, 0)


@pytest.mark.root
@pytest.mark.parametrize("name", [*DIRECTORIES[:-3], "api"])
def test_file_in_place_of_a_directory_is_refused_by_name(config: Config, name: str) -> None:
    path = Path(config.state_dir, name)
    shutil.rmtree(path)
    path.touch(0o600)
    with pytest.raises(ConfigError, match=f"{path} is a link, or no directory"):
        state_directory.make(config, API)


@pytest.mark.root
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
@pytest.mark.parametrize("name", ["lock", DATABASE[0]])
def test_directory_or_fifo_in_place_of_a_file_is_refused_by_name(
    config: Config, name: str, make: Callable[[str], None]
) -> None:
    path = Path(config.state_dir, name)
    path.unlink()
    make(str(path))
    with pytest.raises(ConfigError, match=f"{path} is a link, or no file"):
        state_directory.make(config, API)


@pytest.mark.root
def test_second_name_of_a_file_that_others_can_read_is_refused(
    config: Config, tmp_path: Path
) -> None:
    path = Path(config.state_dir, DATABASE[0])
    path.chmod(0o644)
    os.link(path, tmp_path / "second")
    with pytest.raises(ConfigError, match="second name"):
        state_directory.make(config, API)
    assert mode(path) == (0o644, API)
