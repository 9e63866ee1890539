"""Phrases of the old dialect, each with a sample that counts and one that passes; long lines."""

from __future__ import annotations

from textwrap import dedent

from scripts.measures import prose
from scripts.measures.bounds import PHRASES
from scripts.measures.tree import Tree

from ..each_case import each_case
from .sample import texts


def test_long_lines_of_markdown_count_but_for_tables_code_and_links() -> None:
    long = "word " * 25
    text = (
        f"{long}\n| {long} |\n```\n{long}\n```\n~~~\n```\n{long}\n~~~\nhttps://x.org/{'y' * 120}\n"
    )
    bare = f"- [name]: <https://x.org/{'y' * 120}>\nshort\n{long}https://x.org\n"
    lines = [place.line for place in prose.long_lines(Tree.of({"docs/a.md": text + bare}))]
    assert lines == [1, 13]


def test_a_phrase_counts_in_docstrings_comments_messages_and_markdown() -> None:
    text = """
        '''A

        old
        word.'''
        # An old
        # word.
        f(1)  # old word
        raise E("the old word")
        old = "word"
    """
    tree = Tree.of(
        {
            "sandboxd/a.py": dedent(text),
            "tests/a.py": "x = 'an old word'",
            "docs/a.md": "Old\nword\n",
        }
    )
    places = [(place.path, place.line) for place in prose.phrase(r"\bold word\b")(tree)]
    assert places == [*(("sandboxd/a.py", line) for line in (4, 9, 6, 8)), ("docs/a.md", 1)]


def test_an_opening_counts_only_where_a_sentence_begins_and_is_no_question() -> None:
    opening = prose.phrase(r"^what\b(?![^.!;]*\?)")
    text = "What fails is told.\nSays what fails.\n\nA; what fails\n- What goes.\n\n# What is it?\n"
    assert [place.line for place in opening(Tree.of({"docs/a.md": text}))] == [1, 4, 5]


SAMPLES = {
    "opening-what": ("What fails is reported.", "What fails?"),
    "opening-who": ("Whoever calls is checked.", "The caller, who is checked."),
    "opening-whether": ("Whether it lives is seen.", "It says whether the run lives."),
    "opening-which": ("Which run is next is decided.", "The run which is next."),
    "what-is-is": ("And what is left is removed.", "What is left?"),
    "who-asks": ("The name of who asks.", "The name of the caller."),
    "one-who": ("To the one who waits.", "To the caller that waits."),
    "whoever": ("By whoever holds the lock.", "By the holder of the lock."),
    "he": ("Until he has the file.", "Until the attacker has the file."),
    "is-told": ("The client is\ntold so.", "The client tells the server."),
    "nobodys": ("It is nobody's fault.", "Nobody waits."),
    "nobody-elses": ("It is nobody else's.", "Nobody else waits."),
    "ours-theirs": ("The socket is ours.", "It is our socket."),
    "stray": ("Removes strays.", "Goes astray."),
    "ledger": ("In the ledger.", "In the table."),
    "leftover": ("A leftover of a run.", "A leak of a run."),
    "owed": ("The write is owed.", "The write is allowed."),
    "shelf": ("On the shelf.", "In the registry."),
    "good-for": ("Good for one file.", "Valid for one file."),
    "stands-in": ("The list stands in a.py.", "It stands for a name."),
}


@each_case(("name", "pattern"), [row[:2] for row in PHRASES])
def test_each_phrase_counts_its_sample_and_passes_another(name: str, pattern: str) -> None:
    bad, good = SAMPLES[name]
    assert len(texts(prose.phrase(pattern), Tree.of({"docs/a.md": bad}))) == 1
    assert texts(prose.phrase(pattern), Tree.of({"docs/a.md": good})) == []
