"""The state directory: it is closed, and goes to the api's uid also when that has changed."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from sandboxd.config.settings import Config, SlotsConfig
from sandboxd.errors import ConfigError
from sandboxd.warden.doctor import checks
from sandboxd.warden.slots import state_directory

OLD, NEW = 719998, 719999


@pytest.fixture
def config(tmp_path: Path) -> Config:
    for path in (tmp_path, *tmp_path.parents):
        if "pytest" in str(path):
            path.chmod(0o711)
    return Config(state_dir=str(tmp_path / "state"), slots=SlotsConfig(first_uid=NEW + 1, count=2))


def mode(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return stat.S_IMODE(status.st_mode), status.st_uid


def test_state_directory_is_closed_to_all_but_root_and_the_api(config: Config) -> None:
    database = state_directory.make(config, NEW)
    assert database == state_directory.database_path(config)
    assert mode(config.state_dir) == (0o711, 0)
    assert mode(os.path.dirname(database)) == (0o700, NEW)
    assert not os.path.exists(database)


def test_files_of_the_api_go_to_its_new_uid(config: Config) -> None:
    database = state_directory.make(config, OLD)
    Path(database).touch(0o600)
    os.chown(database, OLD, OLD)
    assert state_directory.owner(config) == OLD
    state_directory.make(config, NEW)
    assert state_directory.owner(config) == NEW
    assert mode(database) == (0o600, NEW)


def test_link_that_the_api_planted_gives_it_no_file_of_another_user(
    config: Config, tmp_path: Path
) -> None:
    database = state_directory.make(config, OLD)
    folder = os.path.dirname(database)
    hosts, linked = tmp_path / "hosts", tmp_path / "linked"
    hosts.touch()
    linked.touch()
    os.chown(linked, OLD, OLD)
    os.link(hosts, f"{folder}/hard")
    os.link(linked, f"{folder}/hard-of-the-same-uid")
    state_directory.make(config, NEW)
    assert mode(str(hosts))[1] == 0 and mode(str(linked))[1] == OLD
    os.mkfifo(f"{folder}/fifo")
    state_directory.make(config, OLD)
    os.symlink(hosts, f"{folder}/soft")
    with pytest.raises(ConfigError, match="--state-dir"):
        state_directory.make(config, NEW)
    assert mode(str(hosts))[1] == 0


def test_directory_of_another_user_is_refused_and_its_links_are_not_followed(
    config: Config, tmp_path: Path
) -> None:
    foreign, aim = tmp_path / "foreign", tmp_path / "aim"
    foreign.mkdir(mode=0o755)
    aim.mkdir()
    (foreign / "api").symlink_to(aim)
    os.chown(foreign, OLD, OLD)
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    os.lchown(link, OLD, OLD)
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    for path in (foreign, foreign / "below", link / "state", open_to_all):
        with pytest.raises(ConfigError, match="others than root"):
            state_directory.make(replace(config, state_dir=str(path)), NEW)
    assert mode(str(aim)) == (0o755, 0) and not list(aim.iterdir())


def test_owner_is_the_apis_uid_before_there_is_a_directory(config: Config) -> None:
    assert state_directory.owner(config) == checks.api_uid(config)


def test_state_directory_that_cannot_be_made_or_reached_is_an_error_of_the_configuration(
    config: Config, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="--state-dir"):
        state_directory.make(replace(config, state_dir="/proc/x"), NEW)
    (tmp_path / "closed").mkdir(mode=0o700)
    with pytest.raises(ConfigError, match="closed"):
        state_directory.make(replace(config, state_dir=f"{tmp_path}/closed/state"), NEW)


def test_lock_that_cannot_be_opened_is_an_error_of_the_configuration(config: Config) -> None:
    state_directory.make(config, NEW)
    os.mkdir(f"{config.state_dir}/lock")  # as good as a file system that is read-only
    with pytest.raises(ConfigError, match="--state-dir"):
        state_directory.lock(config)
