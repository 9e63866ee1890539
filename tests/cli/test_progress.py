"""The progress of a transfer: a bar for a person at a terminal, lines for others."""

from __future__ import annotations

import io
import json

import pytest

from sandboxd.cli.reporter import Reporter
from sandboxd.cli.transfer import progress as progress_module
from sandboxd.cli.transfer.progress import progress

MIB = 1 << 20


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal_of(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """The screen, from here on in this test: pytest has a standard error of its own before."""
    terminal = Terminal()
    monkeypatch.setattr(progress_module, "BAR_S", 0)
    monkeypatch.setattr("sys.stderr", terminal)
    return terminal


def test_terminal_shows_bytes_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    with progress(Reporter(False, False), "uploading", 10 * MIB) as advance:
        advance(5 * MIB)
    shown = terminal.getvalue()
    assert "sandboxd: uploading" in shown and "10.0M" in shown and "B/s" in shown
    assert shown.rsplit("\r", 1)[-1].strip() == ""  # the bar is gone at the end


def test_message_during_a_transfer_has_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    say = Reporter(False, False)
    with progress(say, "uploading", 10) as advance:
        advance(5)
        say.warning("a file is left out")
    before, _, _ = terminal.getvalue().partition("sandboxd: a file is left out\n")
    assert before.endswith("\r")


def test_pipe_gets_a_line_a_second_at_most(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with progress(Reporter(False, False), "uploading", 4000) as advance:
        for _ in range(40):
            advance(100)
            now[0] += 0.25
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 9
    assert lines[0] == "sandboxd: uploading 500 of 4,000 bytes"


def test_json_has_the_count_and_quiet_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress_module, "LINE_S", -1)
    for quiet, as_json in ((True, False), (False, True)):
        with progress(Reporter(quiet, as_json), "fetching") as advance:
            advance(7)
    captured = capsys.readouterr()
    assert captured.err == ""
    assert json.loads(captured.out)["bytes"] == 7


def test_quiet_draws_nothing_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    with progress(Reporter(True, False), "uploading", 10) as advance:
        advance(5)
    assert terminal.getvalue() == ""
