"""The fetching of results: which requests are made, and what becomes of the failures."""

from __future__ import annotations

import contextlib
import os
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandboxd.cli.connection.client import Client, ConnectionLost
from sandboxd.cli.transfer.results import BATCH, BATCH_BYTES, Fetched, batches, fetch, requests
from sandboxd.errors import ConfigError, NotFound, Unavailable
from sandboxd.files.globs import Pattern

from ..each_case import each_case
from .trees import Lines, archive


class FakeArchive:
    """The stream of one request."""

    def __init__(self, files: dict[str, bytes], unmatched: list[str]) -> None:
        self.unmatched = unmatched
        self.left_out = [("pipe", "fifo"), ("x\x1b[2J", "outside")] if "log.txt" in files else []
        self.left_out_count = len(self.left_out) and 7
        self._files = files

    @contextlib.contextmanager
    def tar(self, _: object) -> Iterator[tarfile.TarFile]:
        yield archive(*self._files.items())


class FakeClient(Client):
    """A session with these files; `broken` names a directory at which the connection breaks."""

    def __init__(
        self, files: dict[str, bytes], broken: str | None = None, room: int = 1 << 20
    ) -> None:
        self._files = files
        self._broken = broken
        self._room = room

    def call(self, method: str, path: str, body: Any = None, **kwargs: Any) -> Any:
        scratch = {"size": self._room}
        return {"sandbox": {"workspace": None, "mounts": [], "scratch": scratch}}

    @contextlib.contextmanager
    def get_archive(self, session: str, path: str, match: list[str]) -> Iterator[Any]:
        if path == self._broken:
            raise ConnectionLost("the daemon does not answer")
        prefix = f"{path}/" if path else ""
        inner = {n.removeprefix(prefix): d for n, d in self._files.items() if n.startswith(prefix)}
        if not inner:
            raise NotFound("path", f"{path} does not exist")
        chosen = {
            name: data
            for name, data in inner.items()
            if not match or any(self._fits(name, one) for one in match)
        }
        unmatched = [one for one in match if not any(self._fits(name, one) for name in inner)]
        yield FakeArchive(chosen, unmatched)

    @staticmethod
    def _fits(name: str, match: str) -> bool:
        parts = tuple(name.split("/"))
        return any(Pattern(match).matches(parts[:count]) for count in range(1, len(parts) + 1))


def results(
    files: dict[str, bytes], names: list[str], into: Path, **more: Any
) -> tuple[Fetched, list[str], Lines]:
    """The outcome, the files in `into`, and the lines."""
    say = Lines()
    outcome = fetch(FakeClient(files, **more), "id", names, str(into), say)
    there = [os.path.relpath(path, into) for path in into.rglob("*") if path.is_file()]
    return outcome, sorted(there), say


@each_case(
    ("names", "expected"),
    [
        (["a", "b/c", "b/d"], {(): ["a"], ("b",): ["c", "d"]}),
        (["/home/work/x/y/", "./z"], {(): ["z"], ("x",): ["y"]}),
        (["b/*.log", "b/*/x", "*"], {(): ["*"], ("b",): ["*.log", "*/x"]}),
        (["a/b/**/c?/d"], {("a", "b"): ["**/c?/d"]}),
        (["."], {(): ["."]}),
        (["a/../b"], {(): ["b"]}),
    ],
)
def test_names_become_one_request_for_each_directory(
    names: list[str], expected: dict[Any, list[str]]
) -> None:
    assert requests(names) == expected


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", ""])
def test_name_outside_of_the_workdir_is_a_mistake(name: str) -> None:
    with pytest.raises(ConfigError, match="results: "):
        requests([name])


FILES = {"junit.xml": b"1", "log.txt": b"2", "out/log.txt": b"3", "out/a/x": b"4", "out/b/x": b"5"}


def test_missing_name_is_reported_and_loses_nothing(tmp_path: Path) -> None:
    names = ["junit.xml", "coverage.xml", "nowhere/x", "log.txt"]
    outcome, there, say = results(FILES, names, tmp_path)
    assert there == ["junit.xml", "log.txt"]
    assert sorted(outcome.missing) == ["coverage.xml", "nowhere/x"] and outcome.failed == []
    assert [
        name for name in ("coverage.xml", "nowhere/x") if not any(name in w for w in say.warnings)
    ] == []


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["out/log.txt"], ["log.txt"]),
        (["out/*.txt"], ["log.txt"]),
        (["out/*/x"], ["a/x", "b/x"]),
        (["out"], ["out/a/x", "out/b/x", "out/log.txt"]),
        (["log.txt", "out/log.txt"], ["log.txt", "out/log.txt"]),
        (["."], sorted(FILES)),
    ],
)
def test_results_have_their_places(names: list[str], expected: list[str], tmp_path: Path) -> None:
    outcome, there, _ = results(FILES, names, tmp_path)
    assert there == expected and outcome == Fetched()


HOSTILE = {
    "out/.git/config": b"[core]\nfsmonitor = ./x", "out/.git/hooks/pre-commit": b"x",
    "out/.envrc": b"x", "out/a/.hg/hgrc": b"x", "out/a/.dot": b"1", "out/b": b"2",
    "out/c/.GIT/config": b"x",
}  # fmt: skip


@each_case(
    ("names", "expected"),
    [
        (["out/*"], ["a/.dot", "b"]),
        (["out/**"], ["a/.dot", "b"]),
        (["out/*", "out/?git"], ["a/.dot", "b"]),
        (["out/[.]git/*"], []),
        (["*/*"], ["out/.envrc", "out/a/.dot", "out/b"]),
        (["out"], ["out/.envrc", "out/a/.dot", "out/b"]),
        (["."], ["out/.envrc", "out/a/.dot", "out/b"]),
        (["out/.*"], [".envrc"]),
        (["out/.envrc"], [".envrc"]),
        (["out/*/.hg"], ["a/.hg/hgrc"]),
        (["out/.git"], [".git/config", ".git/hooks/pre-commit"]),
        (["out/.git", "out/*"], [".git/config", ".git/hooks/pre-commit", "a/.dot", "b"]),
    ],
)
def test_wildcard_brings_no_hooks_and_settings_for_programs_of_the_host(
    names: list[str], expected: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as into:
        outcome, there, say = results(HOSTILE, names, Path(into))
        assert there == expected and outcome.failed == []
        assert len(say.warnings) == len(set(say.warnings)) < 5
        assert all("left out" in warning for warning in say.warnings)


BARE = {
    f"{top}{name}": b"ref: refs/heads/x"
    for top in ("", "out/", "out/repo.git/", "out/repo.git/modules/m/")
    for name in ("HEAD", "config", "objects/x", "refs/x")
}


@each_case(
    ("names", "expected"),
    [
        (["."], []),
        (["*"], []),
        (["out"], []),
        (["out/*"], []),
        (["HEAD", "out/config"], ["HEAD"]),  # alone, it is no repository
        (["out/repo.git/*"], []),
        (["out/*.git"], []),
        (["**/HEAD", "**/refs"], []),
        (["out/repo.git"], ["repo.git/HEAD", "repo.git/modules/m/HEAD"]),
        (["out/repo.git/modules"], []),
    ],
)
def test_repository_of_git_without_a_work_tree_arrives_only_by_its_own_name(
    names: list[str], expected: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as into:
        outcome, there, say = results(BARE, names, Path(into))
        assert [name for name in there if name.endswith("HEAD")] == expected
        assert outcome == Fetched() and not any("sandboxd-" in name for name in there)
        assert say.warnings or "*" not in "".join(names)
        assert all("repository of git" in warning for warning in say.warnings)


def test_results_with_more_bytes_than_the_session_stop_before_they_fill_the_disk(
    tmp_path: Path,
) -> None:
    files = {"a/x": bytes(600), "b/x": bytes(600)}
    outcome, there, say = results(files, ["a/*", "b/*"], tmp_path, room=1000)
    assert (outcome.failed, there) == (["b/*"], ["x"])
    assert "more than the 0 MiB" in say.warnings[0] and (tmp_path / "x").stat().st_size == 600
    assert results(files, ["a/*", "b/*"], tmp_path / "y", room=1200)[0] == Fetched()


def test_file_that_two_names_bring_counts_once_for_the_bytes_of_the_session(tmp_path: Path) -> None:
    files = {"out/x": bytes(600), "out/y": bytes(300)}
    outcome, there, _ = results(files, ["out/*", "o*/x", "out/x"], tmp_path, room=1000)
    assert outcome == Fetched() and there == ["out/x", "x", "y"]


def test_many_names_go_in_several_requests(tmp_path: Path) -> None:
    files = {f"{number:03}": b"" for number in range(200)}
    outcome, there, _ = results(files, [*files, "missing"], tmp_path)
    assert there == sorted(files) and outcome == Fetched(missing=["missing"])


def test_entries_that_the_server_leaves_out_are_named(tmp_path: Path) -> None:
    outcome, _, say = results(FILES, ["out/log.txt"], tmp_path)
    assert outcome == Fetched()
    assert say.warnings == [
        "out/pipe is a fifo; left out",
        r"out/x\x1b[2J is a link that leaves /home/work; left out",
        "5 more entries are no files, or links that leave; left out",
    ]


def test_results_before_and_after_a_broken_connection_are_not_lost(tmp_path: Path) -> None:
    outcome, there, say = results(FILES, ["junit.xml", "out/log.txt"], tmp_path, broken="out")
    assert there == ["junit.xml"]
    assert outcome.failed == ["out/log.txt"]
    assert any("out/log.txt" in warning for warning in say.warnings)


def test_result_that_the_folder_has_no_place_for_counts_as_not_fetched(tmp_path: Path) -> None:
    (tmp_path / "junit.xml").mkdir()
    outcome, there, _ = results(FILES, ["junit.xml", "log.txt"], tmp_path)
    assert there == ["log.txt"] and "junit.xml" in outcome.failed


def test_session_that_is_gone_is_no_missing_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise Unavailable("the daemon does not answer")

    monkeypatch.setattr(FakeClient, "call", gone)
    outcome, _, _ = results({}, ["x"], tmp_path)
    assert outcome == Fetched(failed=["x"])


@each_case("length", [1, 200, BATCH_BYTES // 2, BATCH_BYTES, BATCH_BYTES + 1])
def test_names_are_asked_for_in_requests_that_the_server_takes(length: int) -> None:
    names = [f"{number:0{length}}" for number in range(120)]
    parts = list(batches(names))
    assert [name for part in parts for name in part] == names
    for part in parts:
        assert len(part) <= BATCH
        assert len(part) == 1 or sum(map(len, part)) <= BATCH_BYTES
    assert len(parts) <= max(3, 120 * 2 * length // BATCH_BYTES + 1)
