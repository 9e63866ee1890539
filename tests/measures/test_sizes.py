"""Lengths, complexity and lines of code, against small sources and against ruff."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from scripts.measures import sizes
from scripts.measures.tree import Tree

from .sample import source, texts

ROOT = Path(__file__).parent.parent.parent


def test_lengths_of_files_and_functions_are_their_lines() -> None:
    text = '"""Doc."""\n\n@decorated\ndef f():\n    """Two\n    lines."""\n    return 1\n'
    assert [place.size for place in sizes.files(source(text))] == [7]
    assert [place.size for place in sizes.functions(source(text))] == [2]
    assert texts(sizes.above(sizes.files, 6), source(text)) == ["7 lines"]
    assert texts(sizes.above(sizes.files, 7), source(text)) == []


def test_lines_of_code_are_neither_blank_nor_comment_nor_docstring() -> None:
    text = '"""Doc\nstring."""\n\n# comment\nx = """two\nlines"""  # code\n\n"""Of x."""\n'
    assert [place.size for place in sizes.code_lines("sandboxd")(source(text))] == [2]
    assert [place.size for place in sizes.lines("sandboxd")(source(text))] == [8]
    assert [*sizes.code_lines("tests")(source(text))] == []


def test_a_hundred_lines_of_code_are_compared_with_those_of_the_tests() -> None:
    both = Tree.of({"sandboxd/a.py": "x = 1\ny = 2", "tests/a.py": "x = 1\n\ny = 2\nz = 3"})
    assert sizes.tests_per_hundred([*sizes.code(both)]) == 150


def test_modules_and_functions_are_counted_nested_ones_too() -> None:
    text = "class A:\n    async def f(self): ...\ndef g():\n    def inner(): ...\n"
    assert texts(sizes.routines("sandboxd"), source(text)) == ["A.f", "g", "g.inner"]
    assert texts(sizes.modules("sandboxd"), source(text)) == ["module"]


BRANCHES = """
    def f(x):
        if x:
            pass
        elif x > 1:
            pass
        for _ in x:
            pass
        else:
            pass
        while x:
            pass
        try:
            pass
        except OSError:
            pass
        else:
            pass
        finally:
            pass
        match x:
            case 1:
                pass
            case 2 if x:
                pass
            case _:
                pass
        with x:
            return [y for y in x if y and x or 1] if x else None
"""


def test_complexity_counts_branches_and_decisions_count_operators_too() -> None:
    assert [place.size for place in sizes.complexities(source(BRANCHES))] == [9]
    assert [place.size for place in sizes.decision_counts(source(BRANCHES))] == [9 + 5]
    assert [place.size for place in sizes.complexities(source("def f(): ..."))] == [1]


@pytest.mark.slow
def test_complexity_is_what_ruff_counts(tmp_path: Path) -> None:
    """Of every function of the package that has a complexity above four, and of the sample."""
    sample = tmp_path / "sample.py"
    sample.write_text(dedent(BRANCHES))
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select=C901"]
    command += ["--config=lint.mccabe.max-complexity=4", "--output-format=json"]
    output = subprocess.run(
        [*command, "sandboxd", str(sample)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ).stdout
    theirs = set()
    for item in json.loads(output):
        if (path := Path(item["filename"])) != sample:
            number = re.search(r"\((\d+) > 4\)", item["message"])
            assert number
            theirs.add((str(path.relative_to(ROOT)), item["location"]["row"], int(number[1])))
        else:
            assert "(9 > 4)" in item["message"]
    package = Tree(Tree.read(ROOT).below("sandboxd"))
    mine = {(p.path, p.line, p.size) for p in sizes.above(sizes.complexities, 4)(package)}
    assert len(mine) > 100
    assert mine == theirs
