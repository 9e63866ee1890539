"""A hostile script passes nothing on that acts on programs of the host."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies as st

from sandboxd.cli.step.passed_on import directories, environment, inside_directories

from ..each_case import each_case


def test_variables_that_the_user_lists_keep_their_names() -> None:
    text = "A=1\nversion=2=3\nEMPTY=\nLINES<<E\na\n\nb=c\nE\n"
    passed, left_out = environment(text, ["A", "v*", "EMPTY", "LINES"])
    assert left_out == []
    assert passed.startswith("A=1\nversion=2=3\nEMPTY=\nLINES<<end-")
    assert "\na\n\nb=c\nend-" in passed


@each_case(
    "name", ["LD_PRELOAD", "PATH", "PYTHONPATH", "BASH_ENV", "NODE_OPTIONS", "SANDBOXD_SOCKET",
             "https_proxy", "GIT_SSH_COMMAND", "GITHUB_PATH", "ENV", "MAKEFLAGS", "TAR_OPTIONS",
             "PHPRC", "SANDBOXD_PASS", "ACTIONS_ALLOW_UNSECURE_COMMANDS"],
)  # fmt: skip
@each_case("form", ["{}=/srv/x", "{}<<E\n/srv/x\nE", "{}<<E\n/srv\n/x\nE"])
def test_variable_that_lets_the_host_load_something_has_another_name_there(
    name: str, form: str
) -> None:
    passed, left_out = environment(form.format(name) + "\nA=1\n", ["A"])
    assert passed.startswith(f"SANDBOXD_STEP_{name}") and passed.endswith("\nA=1\n")
    assert passed.count("=") + passed.count("<<") == 2 and left_out == []


@each_case(
    "text",
    ["A=1\rLD_PRELOAD=x", "A=1\0LD_PRELOAD=x", " LD_PRELOAD=x", "LD_PRELOAD =x", "=x", "x",
     "A<<E\nLD_PRELOAD=x", "A<<E\nLD_PRELOAD=x\nE ", "\ufeffLD_PRELOAD=x",
     "A=1\u2028LD_PRELOAD=x", "A\u2028LD_PRELOAD=x"],
)  # fmt: skip
def test_line_that_systems_read_in_different_ways_is_left_out(text: str) -> None:
    passed, left_out = environment(text)
    assert passed == "" and len(left_out) == 1


@hypothesis.given(st.text(st.sampled_from("AL_DPATH=<E\n\r\0 x"), max_size=60))
def test_whatever_is_passed_on_has_only_names_that_nothing_acts_on(text: str) -> None:
    passed, _ = environment(text)
    again, left_out = environment(passed, ["SANDBOXD_STEP_*"])
    assert left_out == [] and again.count("=") == passed.count("=")
    for line in passed.split("\n"):
        name, mark, _ = line.partition("=")
        if mark and "<<" not in name and "<<end-" not in passed:
            assert name.startswith("SANDBOXD_STEP_")


@each_case(
    ("line", "passes"),
    [("/home/work/bin", True), ("/home/work/.local/bin", True), ("/home/work", False),
     ("/srv/builds/p/bin", False), ("bin", False), ("", False), ("/home/work/../x", False),
     ("/home/work/a:/srv/b", False), ("/home/work/a\rb", False), ("/tmp/x", False)],
)  # fmt: skip
def test_only_a_directory_of_the_session_comes_in_front_of_path(line: str, passes: bool) -> None:
    passed, left_out = directories(line + "\n", "/srv/builds/p")
    assert (passed == f"{line}\n") == passes and (left_out == [line]) == (not passes and line != "")


@pytest.mark.parametrize("outside", ["/home/work", "/home/work/p", "/home"])
def test_no_directory_passes_that_is_in_the_workspace_on_the_host_too(outside: str) -> None:
    assert directories("/home/work/bin\n", outside) == ("", ["/home/work/bin"])


def test_later_step_has_the_directories_of_the_session() -> None:
    assert inside_directories("/home/work/bin:/usr/bin:/home/work/..") == ["/home/work/bin"]
