"""The command line of a step of a CI system."""

from __future__ import annotations

import pytest

from sandboxd.ci.run_words import run_words
from sandboxd.cli.main import parser


@pytest.mark.parametrize(
    ("command", "text"), [("make test | tee log", "make test | tee log"),
                          (["printf", "a b", "$X"], "printf 'a b' '$X'")],
)  # fmt: skip
def test_words_are_quoted_and_text_is_for_a_shell(command: str | list[str], text: str) -> None:
    assert parser().parse_args(run_words(command)[1:]).exec == text


def test_command_line_has_every_setting() -> None:
    words = run_words("x", "make", "c", ["out/*", "log"], ["--mem", "2g"], "/opt/sandboxd")
    args = parser().parse_args(words[1:])
    assert (args.folder, args.build, args.image, args.mem) == (".", "make", "c", "2g")
    assert args.wait == float("inf") and args.with_parent and words[0] == "/opt/sandboxd"
    assert args.get == ["out/*", "log"]


def test_workspace_is_the_directory_itself() -> None:
    args = parser().parse_args(run_words("make", image="c", workspace=True)[1:])
    assert (args.folder, args.workspace) == (None, ".")
