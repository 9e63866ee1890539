"""Variables from the command line, the environment and files."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandboxd.cli.session_variables import variables
from sandboxd.errors import ConfigError


def test_value_is_that_of_the_option_or_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWN", "mine=1")
    assert variables(["A=1", "B=", "OWN", "C=a=b"]) == {
        "A": "1", "B": "", "OWN": "mine=1", "C": "a=b",
    }  # fmt: skip


def test_file_has_a_variable_a_line_and_options_win(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OWN", "mine")
    path = tmp_path / "env"
    path.write_bytes(b"# comment\n\nA=1\r\nB= two words \nOWN\n  # another\nBYTES=\xff")
    assert variables(["A=2"], [str(path)]) == {
        "A": "2", "B": " two words ", "OWN": "mine", "BYTES": "\udcff",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["=x", ""])
def test_variable_without_a_name_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(ConfigError, match="NAME=VALUE"):
        variables([text])


def test_name_that_the_environment_does_not_have_is_refused_without_a_value(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("ABSENT", raising=False)
    with pytest.raises(ConfigError, match="set ABSENT in your environment first"):
        variables(["ABSENT"])
    (tmp_path / "env").write_text("A=1\nABSENT\n")
    with pytest.raises(ConfigError, match="line 2"):
        variables([], [str(tmp_path / "env")])


def test_refusal_of_a_variable_shows_no_value(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("=secret\n")
    with pytest.raises(ConfigError) as refusal:
        variables([], [str(tmp_path / "env")])
    assert "secret" not in str(refusal.value)


def test_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="/nowhere: No such file"):
        variables([], ["/nowhere"])
