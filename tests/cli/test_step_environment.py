"""The variables of a CI system that go into a session."""

from __future__ import annotations

from sandboxd.cli.step.step_environment import step_variables

from ..each_case import each_case


def test_variables_that_describe_the_job_go_in_and_those_of_the_host_do_not() -> None:
    environ = {"CI": "true", "GITHUB_SHA": "1", "CI_COMMIT": "2", "INPUT_WHO": "x", "JOB_NAME": "j"}
    host = {"PATH": "/bin", "HOME": "/root", "LD_PRELOAD": "x", "SSH_AUTH_SOCK": "s", "USER": "u"}
    assert step_variables(environ | host, "/w") == environ


@each_case(
    "name",
    ["GITHUB_TOKEN", "CI_JOB_TOKEN", "CI_REGISTRY_PASSWORD", "INPUT_SECRET", "CI_DEPLOY_KEY",
     "RUNNER_CREDENTIALS", "BUILD_PRIVATE_THING"],
)  # fmt: skip
def test_secret_of_the_system_goes_in_only_if_the_user_names_it(name: str) -> None:
    assert step_variables({name: "x"}, "/w") == {}
    named = step_variables({name: "x", "SANDBOXD_ENV": f"OTHER,{name}"}, "/w")
    assert named == {name: "x"}


def test_user_names_further_variables_by_patterns() -> None:
    environ = {"SANDBOXD_ENV": "MY_* ONE", "MY_A": "1", "MY_B": "2", "ONE": "3", "NOT": "4"}
    assert step_variables(environ, "/w") == {"MY_A": "1", "MY_B": "2", "ONE": "3"}


def test_paths_of_the_working_directory_become_those_of_the_session() -> None:
    environ = {"GITHUB_WORKSPACE": "/w/job", "CI_DIR": "/w/job/sub", "CI_OTHER": "/w/jobs"}
    assert step_variables(environ, "/w/job") == {
        "GITHUB_WORKSPACE": "/home/work", "CI_DIR": "/home/work/sub", "CI_OTHER": "/w/jobs",
    }  # fmt: skip


def test_paths_of_carried_files_do_not_go_in_by_themselves() -> None:
    assert step_variables({"GITHUB_ENV": "/host/file", "GITHUB_OUTPUT": "/host/x"}, "/w") == {}


def test_variables_that_the_system_has_set_for_the_step_go_in() -> None:
    system = {"HTTP_SECRETS": "s", "LANG": "C", "OF_RUNNER": "r", "CHANGED": "before"}
    step = {"MINE": "1", "CHANGED": "after", "MY_TOKEN": "t", "HOME": "/w/job/home", "TMP": "/w/x"}
    assert step_variables(system | step, "/w/job", of_system=system) == {
        "MINE": "1", "CHANGED": "after",
    }  # fmt: skip


def test_variables_of_earlier_steps_go_in_and_replace_none_of_the_system() -> None:
    environ = {"CI": "true", "SANDBOXD_STEP_CI": "no", "SANDBOXD_STEP_VERSION": "1.2"}
    host = {"SANDBOXD_PASS": "X", "LD_PRELOAD": "a"}
    assert step_variables(environ | host, "/w") == {"CI": "true", "VERSION": "1.2"}


def test_variables_of_a_system_whose_environment_is_unknown_stay_out() -> None:
    assert step_variables({"MINE": "1", "CI": "true"}, "/w", of_system=None) == {"CI": "true"}
