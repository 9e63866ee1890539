"""docs/operations.md: its lists are those of the code.

The tables that scripts/docs makes are compared here, too. The lists below come from modules that
need the packages of the api, which scripts/docs does without.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from sandboxd.api.access import keys
from sandboxd.api.operation import leaks
from sandboxd.api.routes.table import ROUTES
from scripts import docs

from .each_case import each_case

ROOT = Path(__file__).resolve().parent.parent
OPERATIONS = (ROOT / "docs/operations.md").read_text()


def section(title: str) -> str:
    return OPERATIONS.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def first_cells(title: str) -> list[str]:
    """The first cell of each row of the table in a section, without its head."""
    return re.findall(r"^\| ([^|]+) \|", section(title), re.MULTILINE)[1:]


@each_case("table", docs.TABLES)
def test_generated_table_is_the_one_of_the_code(table: docs.Table) -> None:
    begin, end = (f"<!-- {table.name}: {place} -->\n" for place in ("begin", "end"))
    page = (ROOT / table.page).read_text()
    assert page.split(begin)[1].split(end)[0] == f"\n{table.contents()}\n"


def test_kinds_of_leaks_are_those_of_the_report() -> None:
    kinds = [kind for cell in first_cells("Leaks") for kind in re.findall(r"`(\w+)`", cell)]
    assert sorted(kinds) == sorted(leaks.KINDS)


# -- the audit log


def listed_acts() -> Iterator[str]:
    acts = section("The log").split("`act` is one of\n", 1)[1].split("`outcome` is one of", 1)[0]
    for item in acts.split("\n- "):
        names = re.findall(r"`([a-z]*)\.([a-z-]+)`", item)
        yield from (f"{names[0][0]}.{name}" for _, name in names)


def acts() -> set[str]:
    """The acts of requests, and those that are no request's (`audit`)."""
    source = "".join(path.read_text() for path in (ROOT / "sandboxd/api").rglob("*.py"))
    others = set(re.findall(r'\baudit\(f?"([^"]+)"', source))
    changes = re.findall(r'"(\w+)"', inspect.getsource(keys.changes))
    assert "keypair.{what}" in others
    others |= {f"keypair.{change}" for change in changes}
    return {route.act for route in ROUTES if route.act} | others - {"keypair.{what}"}


def test_acts_of_the_audit_log_are_those_of_the_routes() -> None:
    assert sorted(listed_acts()) == sorted(acts())


# -- refusals


@functools.cache
def texts() -> str:
    """All texts in the code; a place for a value divides a text."""
    constants = [
        node.value
        for path in (ROOT / "sandboxd").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    return "\0".join(constants)


REFUSALS = [
    message
    for cell in first_cells("When a request or a start is refused")
    for message in re.findall(r"`([^`]+)`", cell)
]


@each_case("message", REFUSALS)
def test_refusal_has_the_words_of_the_code(message: str) -> None:
    words = [word.strip() for word in re.split(r"\.\.\.|[:;']|\bNAME\b|\bstage\b", message)]
    assert [word for word in words if word not in texts()] == []
