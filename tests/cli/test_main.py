"""Errors of commands with names that a hostile author has chosen."""

from __future__ import annotations

import pytest

from sandboxd.cli.main import USAGE_ERROR, main


def test_escape_sequence_in_a_name_does_not_reach_the_terminal_by_an_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["sh", "/none/x\x1b[2J\u202e\udcff"]) == USAGE_ERROR
    error = capsys.readouterr().err
    assert "/none/x\\x1b[2J\\u202e" in error and "\\xff" in error
    assert error.replace("\n", "").isprintable() and error.count("\n") == 1
