"""The stages of GitLab Runner's custom executor, as the runner calls them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..waiting import until
from .daemon import Daemon, sessions_of
from .gitlab_runner import BUILD_FAILURE, SYSTEM_FAILURE, Runner

CONFIG = "[admission.owner]\nsessions = 2\n"


@pytest.fixture
def runner(daemon: Daemon, tmp_path: Path) -> Iterator[Runner]:
    """A runner whose job is prepared, and cleaned up afterwards."""
    runner = Runner(daemon, tmp_path)
    status, _, errors = runner.call("prepare")
    assert status == 0, errors
    yield runner
    assert runner.call("cleanup")[0] == 0
    assert sessions_of(daemon.state) == {}
    assert runner.call("cleanup")[0] == 0, "a second cleanup does no harm"


def test_config_names_directories_that_the_session_has(daemon: Daemon, tmp_path: Path) -> None:
    status, output, _ = Runner(daemon, tmp_path).call("config")
    settings = json.loads(output)
    assert status == 0 and settings["driver"]["name"] == "sandboxd"
    assert settings["builds_dir"].startswith("/home/work/")
    assert settings["builds_dir_is_shared"] is False


def test_scripts_of_a_job_share_its_session(runner: Runner) -> None:
    assert runner.run("mkdir -p builds && echo made > builds/x", "prepare_script")[0] == 0
    status, output, errors = runner.run('cat builds/x; echo err >&2; echo "$CUSTOM_ENV_SECRET."')
    assert (status, output, errors) == (0, "made\n.\n", "err\n")


def test_failure_of_the_job_is_a_build_failure_with_its_code(runner: Runner) -> None:
    assert runner.run("exit 42")[0] == BUILD_FAILURE
    assert runner.code.read_text() == "42"
    runner.code.unlink()
    assert runner.run("exit 125")[0] == BUILD_FAILURE
    assert runner.code.read_text() == "125"


def test_session_that_is_gone_is_a_system_failure(runner: Runner) -> None:
    assert runner.call("cleanup")[0] == 0
    status, _, errors = runner.run("true")
    assert status == SYSTEM_FAILURE and "there is no session" in errors
    assert not runner.code.exists()


def test_prepare_that_is_tried_again_makes_the_session_anew(runner: Runner) -> None:
    runner.run("touch old")
    assert runner.call("prepare")[0] == 0
    assert len(sessions_of(runner.daemon.state)) == 1
    assert runner.run("ls")[1] == ""


@pytest.mark.parametrize("image", ["klingon:latest", "klingon\ud800", "klingon\n", "k" * 600])
def test_image_of_the_job_that_this_host_does_not_have_is_a_build_failure(
    daemon: Daemon, tmp_path: Path, image: str
) -> None:
    runner = Runner(daemon, tmp_path, image={"name": image})
    status, _, errors = runner.call("prepare")
    assert status == BUILD_FAILURE and ("klingon" in errors or "--image" in errors)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--image", "klingon"), "klingon"), (("--mem", "3x"), "--mem"),
        (("--network", "none"), "none"), (("--folder", "none"), "none"),
        (("--cache", "3x"), "--cache"),
    ],
)  # fmt: skip
def test_mistake_in_the_options_of_the_runner_is_a_system_failure(
    daemon: Daemon, tmp_path: Path, options: tuple[str, ...], text: str
) -> None:
    status, _, errors = Runner(daemon, tmp_path).call("prepare", *options)
    assert status == SYSTEM_FAILURE and text in errors and errors.count("\n") == 1


def test_call_without_the_file_of_the_job_is_a_system_failure(
    daemon: Daemon, tmp_path: Path
) -> None:
    runner = Runner(daemon, tmp_path)
    (tmp_path / "job.json").write_text('{"id": Infinity, "token": "t"}')
    stages = (("config",), ("prepare",), ("run", runner.script("true"), "x"), ("cleanup",))
    for stage in stages:
        assert runner.call(*stage)[0] == SYSTEM_FAILURE
    (tmp_path / "job.json").unlink()
    for stage in stages:
        assert runner.call(*stage)[0] == SYSTEM_FAILURE


def test_daemon_that_is_away_is_a_system_failure(daemon: Daemon, tmp_path: Path) -> None:
    runner = Runner(daemon, tmp_path)
    away = ("--socket", f"{tmp_path}/none")
    assert runner.call("prepare", *away)[0] == SYSTEM_FAILURE
    assert runner.call("cleanup", *away)[0] == SYSTEM_FAILURE


def test_cancelled_job_may_clean_up(runner: Runner) -> None:
    trap = "trap 'echo saved; exit 9' TERM\necho up\nsleep 60 & wait\n"
    process = runner.begin("run", runner.script(trap), "build_script")
    assert process.stdout and process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    assert process.communicate()[0] == "saved\n"
    assert process.returncode == BUILD_FAILURE


def test_time_limit_of_the_job_ends_its_script(daemon: Daemon, tmp_path: Path) -> None:
    runner = Runner(daemon, tmp_path, runner_info={"timeout": 5})
    assert runner.call("prepare")[0] == 0
    assert runner.run("echo up; sleep 60")[:2] == (BUILD_FAILURE, "up\n")
    assert runner.code.read_text() == "124"
    assert runner.call("cleanup")[0] == 0


def test_session_between_two_stages_has_a_time_to_live(runner: Runner) -> None:
    (session,) = sessions_of(runner.daemon.state).values()
    with runner.daemon.client() as http:
        facts = http.get(f"/session/{session}").json()["sandbox"]
        assert (facts["ttlSeconds"], facts["ends"]["reason"]) == (300, "time-to-live")


def test_script_ends_when_its_runner_is_killed(runner: Runner) -> None:
    command = [sys.executable, "-P", "-m", "sandboxd", "gitlab", "run"]
    words = [*command, "--socket", f"{runner.daemon.folder}/api.sock",
             runner.script("echo up; sleep 60"), "build_script"]  # fmt: skip
    middle = "import subprocess, sys; subprocess.run(sys.argv[1:])"
    with subprocess.Popen(
        [sys.executable, "-c", middle, *words], env=runner.environ, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout and process.stdout.readline() == "up\n"
        (session,) = sessions_of(runner.daemon.state).values()
        process.kill()
        with runner.daemon.client() as http:
            url = f"/session/{session}"
            until(lambda: http.get(url).json()["sandbox"]["runs"]["active"] is None)
            until(lambda: http.get(url).json()["sandbox"]["ends"])  # nobody holds it any more
