"""The refusals and the changes of scripts/release."""

from __future__ import annotations

import datetime
import subprocess
from pathlib import Path

import pytest
from packaging.version import Version

from scripts import release
from scripts.release import Refused

pytestmark = pytest.mark.slow  # clones of the checkout

DAY = datetime.date(2026, 12, 1)
IDENTITY = ("-c", "user.name=Kim", "-c", "user.email=kim@localhost")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one commit and the tags of two releases."""
    _git(tmp_path, "init", "--quiet")
    (tmp_path / "file").write_text("text")
    _git(tmp_path, "add", "file")
    _git(tmp_path, "commit", "--quiet", "--message", "First")
    for tag in ("v0.9", "v0.10", "vendor"):
        _git(tmp_path, "tag", tag)
    return tmp_path


def _git(checkout: Path, *arguments: str) -> None:
    subprocess.run(["git", *IDENTITY, *arguments], cwd=checkout, check=True)


@pytest.mark.parametrize("text", ["", "one", "1.0-final", "v 1"])
def test_a_version_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="no version of PEP 440"):
        release.parsed(text)


@pytest.mark.parametrize(("text", "normal"), [("v1.0", "1.0"), ("1.0-rc1", "1.0rc1")])
def test_a_version_in_another_form_is_refused_with_the_normal_form(text: str, normal: str) -> None:
    with pytest.raises(Refused, match=f"which is {normal}"):
        release.parsed(text)


def test_a_version_above_the_last_is_accepted(checkout: Path) -> None:
    release.check(Version("0.11"), checkout)


@pytest.mark.parametrize("version", ["0.9.5", "0.10rc1"])
def test_a_version_below_the_last_is_refused(checkout: Path, version: str) -> None:
    with pytest.raises(Refused, match=r"not above the last release, 0\.10"):
        release.check(Version(version), checkout)


def test_an_existing_tag_is_refused(checkout: Path) -> None:
    with pytest.raises(Refused, match=r"the tag v0\.10 exists"):
        release.check(Version("0.10"), checkout)


@pytest.mark.parametrize("name", ["file", "new"])
def test_a_checkout_with_changes_is_refused(checkout: Path, name: str) -> None:
    (checkout / name).write_text("changed")
    with pytest.raises(Refused, match="not committed"):
        release.check(Version("0.11"), checkout)


def test_the_unreleased_section_gets_version_and_date() -> None:
    text = "# Changes\n\n## 0.2.0 (unreleased)\n\n- new\n\n## 0.1.0 (2026-11-01)\n"
    dated = release.dated(text, Version("0.3.0"), DAY)
    assert dated == "# Changes\n\n## 0.3.0 (2026-12-01)\n\n- new\n\n## 0.1.0 (2026-11-01)\n"


@pytest.mark.parametrize("text", ["## 0.1.0 (2026-11-01)\n", "## 1 (unreleased)\n" * 2])
def test_a_changelog_without_one_unreleased_section_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="unreleased sections"):
        release.dated(text, Version("1.0"), DAY)


def test_the_version_is_set_in_the_package() -> None:
    module = release.numbered('"""Text."""\n\n__version__ = "0.1.0"\n', Version("1.0rc1"))
    assert module == '"""Text."""\n\n__version__ = "1.0rc1"\n'


def test_the_package_and_the_changelog_of_this_checkout_can_be_released() -> None:
    root = Path(release.__file__).parent.parent
    release.numbered((root / "sandboxd" / "__init__.py").read_text(), Version("99"))
    release.dated((root / "CHANGELOG.md").read_text(), Version("99"), DAY)
