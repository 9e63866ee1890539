"""Docstrings and annotations: those that are missing, and module docstrings without a noun."""

from __future__ import annotations

from scripts.measures import docstrings

from ..each_case import each_case
from .sample import source, texts


@each_case(
    "docstring",
    [
        "What the server says.",
        "Who asks, and for whom.",
        "Gives memory back.",
        "Names the point that fails.",
        "Can files be bounded?",
        "After the first boot.",
    ],
)
def test_a_module_docstring_without_a_noun_at_its_beginning_counts(docstring: str) -> None:
    assert texts(docstrings.module_openings, source(f'"""{docstring}"""')) == [docstring]


@each_case(
    "docstring",
    ["The queue of runs.", "Names of sessions.", "`sandboxd run`: a run.", "Runs.", "`set`."],
)
def test_a_module_docstring_with_a_noun_at_its_beginning_passes(docstring: str) -> None:
    assert docstrings.begins_with_noun(docstring)
    assert texts(docstrings.module_openings, source(f'"""{docstring}"""')) == []


def test_a_module_without_a_docstring_counts_unless_it_is_an_empty_package() -> None:
    assert texts(docstrings.module_openings, source("import os")) == ["no docstring"]
    assert texts(docstrings.module_openings, source("import os", "tests/__init__.py")) != []
    assert texts(docstrings.module_openings, source("", "tests/__init__.py")) == []


def test_what_is_public_without_a_docstring_counts() -> None:
    bad = "class A:\n    def f(self): ...\ndef g(): ..."
    assert texts(docstrings.missing_docstrings, source(bad)) == ["A", "A.f", "g"]
    good = """
        class A:
            '''Documented.'''
            def __init__(self): ...
            def _f(self): ...
        def g():
            '''Documented.'''
            def inner(): ...
        class _B:
            def f(self): ...
    """
    assert texts(docstrings.missing_docstrings, source(good)) == []


def test_what_has_no_annotation_counts() -> None:
    bad = "def f(a, *b: int, c=1, **d): ...\nclass A:\n    @staticmethod\n    def g(x) -> None: ..."
    assert texts(docstrings.missing_annotations, source(bad)) == [
        "f: a",
        "f: c",
        "f: d",
        "f: return",
        "A.g: x",
    ]
    good = """
        class A:
            def f(self, a: int) -> None: ...
            @classmethod
            def g(cls) -> None: ...
    """
    assert texts(docstrings.missing_annotations, source(good)) == []
