"""The examples, built and run as their READMEs say, outside of a sandbox."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sandboxd.runtimes import detect

pytestmark = pytest.mark.slow  # the examples are built and run

EXAMPLES = Path(__file__).parents[2] / "examples"


def copied(name: str, into: Path) -> Path:
    """A copy of an example, to build and write in."""
    return shutil.copytree(EXAMPLES / name, into / name)


def sh(command: str, folder: Path, text: str = "") -> subprocess.CompletedProcess[str]:
    """The result of a shell command."""
    return subprocess.run(
        ["/bin/sh", "-c", command], cwd=folder, input=text, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("name", "runtime"), [("wordcount", "c"), ("report", "python"), ("inventory", "shell")]
)
def test_the_runtime_of_an_example_is_detected(name: str, runtime: str) -> None:
    top = EXAMPLES / name
    names = (str(path.relative_to(top)) for path in top.rglob("*") if path.is_file())
    assert detect(names) == runtime


@pytest.fixture
def wordcount(tmp_path: Path) -> Path:
    """The C example, built."""
    folder = copied("wordcount", tmp_path)
    built = sh("make CFLAGS='-O2 -Wpedantic -Werror'", folder)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.mark.needs("gcc", "make")
def test_wordcount_is_sorted_and_adds_up(wordcount: Path) -> None:
    ran = sh("./main data/*.txt", wordcount)
    assert (ran.returncode, ran.stderr) == (0, "")
    *rows, totals = ran.stdout.splitlines()
    counts = [int(row.split()[0]) for row in rows]
    assert len(rows) == 10 and counts == sorted(counts, reverse=True)
    text = " ".join(path.read_text().lower() for path in (wordcount / "data").iterdir())
    words = "".join(c if c.isalpha() or c == "'" else " " for c in text).split()
    assert totals.split() == f"{len(words)} words, {len(set(words))} different".split()
    assert rows[0].split() == [str(words.count("the")), "the"]


@pytest.mark.needs("gcc", "make")
@pytest.mark.parametrize(
    ("name", "why"), [("none.txt", "No such file"), ("data", "Is a directory")]
)
def test_wordcount_fails_for_what_it_cannot_read(wordcount: Path, name: str, why: str) -> None:
    ran = sh(f"./main {name} data/mill.txt", wordcount)
    assert ran.returncode == 1 and f"wordcount: {name}: {why}" in ran.stderr
    assert "words," in ran.stdout


@pytest.mark.needs("gcc", "make")
def test_wordcount_cleans_up_after_itself(wordcount: Path) -> None:
    assert sh("make clean", wordcount).returncode == 0
    left = {path.relative_to(wordcount) for path in wordcount.rglob("*")}
    top = EXAMPLES / "wordcount"
    assert left == {path.relative_to(top) for path in top.rglob("*")}


def test_report_writes_the_same_summary_for_people_and_programs(tmp_path: Path) -> None:
    folder = copied("report", tmp_path)
    ran = sh(f"{sys.executable} main.py", folder)
    assert ran.returncode == 0, ran.stderr
    rows = json.loads((folder / "out/summary.json").read_text())
    with (folder / "data/measurements.csv").open() as file:
        readings = list(csv.DictReader(file))
    assert sum(row["readings"] for row in rows) == len(readings)
    with (folder / "out/summary.csv").open() as file:
        assert [row["station"] for row in csv.DictReader(file)] == [row["station"] for row in rows]
    assert (folder / ".output/summary.txt").read_text() == ran.stdout


@pytest.mark.parametrize(("typed", "name"), [("Kim\n", "Kim"), ("\n", "nobody"), ("", "nobody")])
def test_inventory_greets_who_answers_and_those_who_do_not(typed: str, name: str) -> None:
    ran = sh("sh main.sh", EXAMPLES / "inventory", typed)
    assert ran.stdout.startswith("Who is asking? ") and f"Hello, {name}." in ran.stdout
    # Where /usr can be written to, as by root outside of a sandbox, it says that this is wrong.
    assert ran.returncode == (1 if os.access("/usr", os.W_OK) else 0)
