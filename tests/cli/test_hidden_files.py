"""The rows of `sandboxd doctor` on files that programs do not see."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from sandboxd.cli import hidden_files
from sandboxd.config.settings import Config
from sandboxd.jail.public_files import Why
from sandboxd.jail.shown_files import Copier, Report, Shown
from sandboxd.model import Guarantee

Rows = Callable[..., dict[str, Guarantee]]


@dataclass
class Copy:
    """A copy of a host's files that left some out."""

    report: Report

    def copy(self) -> Shown:
        """Nothing is copied for real."""
        return Shown("/nowhere")


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Rows:
    """The rows, by name, for files that were left out and for links that are dead."""

    def rows(
        left_out: dict[str, Why] | None = None,
        links: dict[str, str] | None = None,
        has_packages: bool = True,
    ) -> dict[str, Guarantee]:
        report = Report(left_out=left_out or {}, has_packages=has_packages)
        monkeypatch.setattr(hidden_files, "Copier", lambda *_: Copy(report))
        monkeypatch.setattr(hidden_files, "hidden_links", lambda *_: links or {})
        return {row.name: row for row in hidden_files.rows(Config())}

    return rows


def test_host_without_dpkg_has_a_row_that_says_so(rows: Rows) -> None:
    row = rows(has_packages=False)["packages"]
    assert not row.held and not row.required
    assert "no dpkg" in row.detail and "[rootfs] etc" in row.remedy


def test_host_without_hidden_files_has_one_row_that_holds(rows: Rows) -> None:
    (row,) = rows().values()
    assert row.held


def test_changed_file_is_named_with_the_setting_that_shows_it(rows: Rows) -> None:
    row = rows({"/etc/R/Renviron.site": "changed"})["/etc/R"]
    assert not row.held and not row.required
    assert row.detail == "changed on this host: /etc/R/Renviron.site"
    assert row.remedy.endswith('[rootfs] etc = ["R/Renviron.site"]')


def test_many_changed_files_of_a_directory_are_one_row(rows: Rows) -> None:
    row = rows({f"/etc/tool/{number}": "changed" for number in range(9)})["/etc/tool"]
    assert row.detail.endswith("/etc/tool/3 and 5 more")
    assert row.remedy.endswith('[rootfs] etc = ["tool"]')


def test_closed_file_of_etc_is_named_and_the_state_of_a_service_is_not(rows: Rows) -> None:
    named = rows({"/etc/default/x": "closed", "/var/lib/service/x": "closed"})
    assert named.keys() == {"shown", "/etc/default"}
    assert named["/etc/default"].remedy == "if it is no secret: chmod o+r /etc/default/x"


@pytest.mark.parametrize(
    ("target", "setting"),
    [
        ("/etc/tool/x", '[rootfs] etc = ["tool/x"]'),
        ("/var/lib/tool", '[runtimes.shell] paths = ["/var/lib/tool"]'),
    ],
)
def test_link_that_leads_to_nothing_inside_is_named_with_its_target(
    rows: Rows, target: str, setting: str
) -> None:
    row = rows(links={"/usr/share/tool": target})["/usr/share/tool"]
    assert target in row.detail and row.remedy.endswith(setting)


@pytest.mark.slow
def test_rows_of_this_host_leave_no_copy_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = []
    copy = Copier.copy

    def seen(copier: Copier) -> Shown:
        shown = copy(copier)
        targets.append(shown.directory)
        return shown

    monkeypatch.setattr(Copier, "copy", seen)
    monkeypatch.setattr(hidden_files, "hidden_links", lambda *_: {})
    assert next(hidden_files.rows(Config())).held
    assert not any(map(os.path.exists, targets)) and targets
