"""Names of sessions and files on the command line."""

from __future__ import annotations

import pytest

from sandboxd.cli.connection.references import folder_path, remote, session_path
from sandboxd.cli.main import parser
from sandboxd.errors import ConfigError

from ..each_case import each_case


@each_case(
    ("text", "parts"),
    [
        ("s:a/b", ("s", "a/b")), ("s:", ("s", "")), ("s:a:b", ("s", "a:b")), ("a/b", None),
        ("./s:a", None), ("/x/s:a", None), (":a", None), ("s", None), ("", None),
    ],
)  # fmt: skip
def test_remote_name_has_a_colon_before_its_first_slash(
    text: str, parts: tuple[str, str] | None
) -> None:
    assert remote(text) == parts


def test_name_in_a_path_is_quoted() -> None:
    assert session_path("a/../b?x") == "/session/a%2F..%2Fb%3Fx"
    assert folder_path("a b") == "/folders/a%20b"


@pytest.mark.parametrize(
    ("words", "wait"),
    [(["run", "."], None), (["run", ".", "--wait"], float("inf")), (["run", ".", "--wait=3"], 3.0),
     (["run", "--wait", "3", "."], 3.0)],
)  # fmt: skip
def test_wait_has_seconds_or_none(words: list[str], wait: float | None) -> None:
    assert parser().parse_args(words).wait == wait


@each_case("text", ["-1", "nan", "-inf", "soon", ""])
def test_wait_of_no_number_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is no number of seconds"):
        parser().parse_args(["run", ".", f"--wait={text}"])


def test_folder_behind_wait_is_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match="write --wait behind it"):
        parser().parse_args(["run", "--wait", "folder"])


@each_case(
    ("words", "script", "rest"),
    [
        (["s.sh", "a", "-b"], "s.sh", ["a", "-b"]),
        (["-e", "s.sh", "--image", "x"], "s.sh", ["--image", "x"]),
        (["--image", "c", "-ex", "s.sh"], "s.sh", []),
        (["-ec", "text"], None, []),
        (["-e", "-c", "text", "zero", "one"], "zero", ["one"]),
    ],
)
def test_words_behind_the_script_belong_to_it(
    words: list[str], script: str | None, rest: list[str]
) -> None:
    args = parser().parse_args(["sh", *words])
    assert (args.script, args.words) == (script, rest)
