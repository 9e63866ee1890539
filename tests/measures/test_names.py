"""Banned, retired and repeated names: each form counts, and a good name passes."""

from __future__ import annotations

from scripts.measures import names
from scripts.measures.tree import Tree

from ..each_case import each_case
from .sample import source, texts


@each_case(
    "bad",
    [
        "told = 1",
        "told: int = 1",
        "_kept += 1",
        "def asked(): ...",
        "class made: ...",
        "def f(given): ...",
        "def f(*, given=1): ...",
        "def f(*given, **others): ...",
        "lambda given: 1",
        "self.found = 1",
        "for found in (): ...",
        "[1 for found in ()]",
        "(found := 1)",
        "with open('x') as found: ...",
        "try: ...\nexcept OSError as told: ...",
        "import os as made",
        "from .x import told",
        "class A:\n    kept: int = 0",
        "match 1:\n    case [found, *_]: ...",
        "match 1:\n    case {**found}: ...",
    ],
)
def test_a_banned_name_counts_once_however_it_is_bound(bad: str) -> None:
    assert len(texts(names.banned, source(bad))) == 1


def test_a_name_that_contains_a_banned_one_passes_and_so_does_a_use() -> None:
    good = "kept_s = 1\nfoundation = told()\nf(given=asked.made)\n'found'"
    assert texts(names.banned, source(good)) == []


def test_a_module_with_a_banned_name_counts() -> None:
    assert texts(names.banned, source("", "tests/told.py")) == ["module told"]


def test_a_retired_word_in_a_name_counts() -> None:
    bad = "class StrayKind: ...\nclass ToldFile: ...\ndef _owed_writes(): ...\nLEDGER_MAX = 1"
    assert len(texts(names.retired, source(bad))) == 4
    assert texts(names.retired, source("class Leak: ...\nbestowed = 1\nastray = 2")) == []


def test_name_of_a_test_that_says_too_little_counts() -> None:
    bad = "def test_flow(): ...\nasync def test_it_is_sent_as_before(): ...\nclass A:\n"
    bad += "    def test_both_ways_are_in_the_log(self): ..."
    assert len(texts(names.unclear_tests, source(bad, "tests/test_a.py"))) == 3
    good = "def test_upload_leaves_a_line(): ...\ndef a_flow(): ...\ntest_x = 1"
    assert texts(names.unclear_tests, source(good, "tests/test_a.py")) == []


def test_a_class_name_in_two_modules_counts_nested_and_private_ones_too() -> None:
    bad = Tree.of(
        {
            "sandboxd/a.py": "class Run: ...\nclass _Host: ...\nclass Only: ...",
            "sandboxd/b.py": "class X:\n    class Run: ...\ndef f():\n    class _Host: ...",
        }
    )
    assert sorted(texts(names.repeated_classes, bad)) == [
        "class Run, also in sandboxd/a.py",
        "class Run, also in sandboxd/b.py",
        "class _Host, also in sandboxd/a.py",
        "class _Host, also in sandboxd/b.py",
    ]
    twice_in_one = "class A:\n    class Meta: ...\nclass B:\n    class Meta: ..."
    assert texts(names.repeated_classes, source(twice_in_one)) == []


def test_a_module_name_in_two_packages_counts() -> None:
    paths = ["sandboxd/a/x.py", "sandboxd/b/x.py", "sandboxd/a/__init__.py", "sandboxd/b/y.py"]
    empty = dict.fromkeys([*paths, "sandboxd/b/__init__.py", "tests/y.py"], "")
    assert [place.path for place in names.repeated_modules(Tree.of(empty))] == paths[:2]
