"""The output of `sandboxd runtimes`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from sandboxd import runtimes
from sandboxd.cli import runtimes as command
from sandboxd.config.settings import Config
from sandboxd.runtimes import Runtimes
from sandboxd.runtimes.builtin import BUILTIN

from ..runtimes.tree import Tree


@pytest.fixture
def small_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with gcc, and with node in a place that programs do not see."""
    tree = Tree(tmp_path)
    tree.add({"/usr/bin/gcc": 0o755, "/opt/node/node": 0o755, "/usr/bin/node": "/opt/node/node"})
    load = runtimes.load

    def of_the_tree(config: Config) -> Runtimes:
        return load(config, root=tree.root, daemon_path="")

    monkeypatch.setattr(runtimes, "load", of_the_tree)


def run(capsys: pytest.CaptureFixture[str], *, as_json: bool) -> str:
    assert command.main(argparse.Namespace(config=None, json=as_json)) == 0
    return capsys.readouterr().out


def test_each_runtime_has_one_short_line_and_available_ones_come_first(
    small_host: None, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = run(capsys, as_json=False).splitlines()
    assert lines[0].split() == ["c", "yes", "/usr/bin/gcc"]
    assert f"1 of {len(BUILTIN)} runtimes" in lines[-2]
    rows = lines[: len(BUILTIN)]
    assert {row.split()[0] for row in rows} == {runtime.name for runtime in BUILTIN}
    haskell = next(row for row in rows if row.startswith("haskell"))
    assert haskell.split(None, 2)[1:] == ["no", "apt-get install ghc"]


def test_tool_that_programs_cannot_see_is_explained_and_not_to_be_installed(
    small_host: None, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run(capsys, as_json=False)
    nodejs = next(row for row in out.splitlines() if row.startswith("nodejs"))
    assert "cannot see that place" in nodejs and "apt-get" not in nodejs


def test_json_has_the_packages(small_host: None, capsys: pytest.CaptureFixture[str]) -> None:
    listed = {entry["name"]: entry for entry in json.loads(run(capsys, as_json=True))}
    assert listed["haskell"]["packages"] == ["ghc"] and not listed["haskell"]["available"]
