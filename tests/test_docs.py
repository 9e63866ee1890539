"""The documentation: it agrees with the tree, the command line, the configuration, and itself."""

from __future__ import annotations

import ast
import dataclasses
import os
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxd.cli.main import parser
from sandboxd.config import toml_file
from sandboxd.config.settings import Config
from sandboxd.errors import ConfigError
from sandboxd.runs import life
from sandboxd.warden.runs import jail_entry
from sandboxd.warden.slots import state_files

from .each_case import each_case
from .needs import missing

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "examples/*/*.md")
    for path in ROOT.glob(pattern)
)  # fmt: skip
PACKAGES = ("sandboxd", "sandboxd/api", "sandboxd/warden")
"""Places from which a path in a document may begin, besides the root and the document's own."""

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TOP = (
    ".ci/", "docs/", "examples/", "sandboxd/", "scripts/", "systemd/", "tests/",
    "access/", "admission/", "api/", "cli/", "config/", "doctor/", "files/", "folders/", "host/",
    "http/", "jail/", "leaks/", "operation/", "options/", "probes/", "processes/", "protections/",
    "requests/", "routes/", "runs/", "runtimes/", "selftest/", "sessions/", "shim/", "slots/",
    "store/", "telemetry/", "warden/", "wire/",
)  # fmt: skip
"""How a path of this checkout begins in a document."""

ELSEWHERE = ("build/", "api/sandboxd.sqlite")
"""Paths that a command makes, and names that are no paths."""


def _text(path: Path) -> str:
    return path.read_text()


def _prose(path: Path) -> str:
    return FENCE.sub("", _text(path))


def _section(document: str, title: str) -> str:
    text = _text(ROOT / document)
    return text.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


# -- one run


def test_functions_that_the_sequence_names_are_in_their_modules() -> None:
    text = _section("docs/architecture.md", "One run").split("### States of a run")[0]
    names = {name for name in re.findall(r"\b([a-z_]+)\.([a-z_]+)\b", text) if name[1] != "py"}
    defined = {
        (path.stem, node.name)
        for path in (ROOT / "sandboxd").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    assert len(names) > 40
    assert sorted(names - defined) == []


def _next_states(title: str) -> dict[str, set[str]]:
    """The states in the table of a section, each with those that may follow it."""
    text = _text(ROOT / "docs/architecture.md").split(f"# {title}\n", 1)[1]
    table = text.split("| state | meaning | next |\n|---|---|---|\n")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    return {state: set(following.split(", ")) - {""} for state, _, following in rows}


def test_states_in_the_architecture_are_those_of_the_code() -> None:
    runs = {state: {*events.values()} - {state} for state, events in life.TRANSITIONS.items()}
    assert _next_states("States of a run") == runs
    entries = {state: set(following) for state, following in jail_entry.TRANSITIONS.items()}
    assert _next_states("Entries to the jail") == entries


def test_directories_of_the_state_are_in_the_architecture() -> None:
    places = re.findall(r"`STATE/([\w.-]+)", _section("docs/architecture.md", "State"))
    assert {*state_files.DIRECTORIES, "api", "lock", "workspace.key"} - {*places} == set()


# -- the site


def test_site_builds_without_a_warning() -> None:
    python = ROOT / "build/docs-venv/bin/python"
    if not python.exists():
        missing("scripts/docs has not made the environment of the site, build/docs-venv")
    done = subprocess.run(
        ["scripts/docs", "--try"], cwd=ROOT, env={**os.environ, "PYTHON": str(python)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


# -- where things live


def _tree() -> list[str]:
    """The modules that docs/architecture.md lists, as paths below sandboxd/."""
    tree = FENCE.search(_section("docs/architecture.md", "Where things live"))
    assert tree
    modules, packages = [], [""]
    for line in tree[2].splitlines()[1:]:
        depth = (len(line) - len(line.lstrip())) // 2
        for word in line.split():
            if word.endswith("/"):
                packages[depth:] = [f"{packages[depth - 1]}{word}"]
            elif word.endswith(".py"):
                modules.append(f"{packages[depth - 1]}{word}")
                continue
            break
    return modules


def test_architecture_lists_every_module_once_and_none_that_is_not_there() -> None:
    package = ROOT / "sandboxd"
    there = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if path.name != "__init__.py"
    }
    listed = _tree()
    assert sorted(set(listed) - there) == [], "these are listed and not there"
    assert sorted(there - set(listed)) == [], "these are not listed"
    assert len(listed) == len(set(listed))


def test_functions_on_the_ways_of_requests_are_in_the_modules_that_the_architecture_names() -> None:
    functions: dict[str, set[str]] = {}
    for path in (ROOT / "sandboxd").rglob("*.py"):
        names = re.findall(r"^ *(?:async )?def (\w+)\(", path.read_text(), re.MULTILINE)
        functions.setdefault(path.stem, set()).update(names)
    section = _section("docs/architecture.md", "One run").split("### States of a run")[0]
    named = re.findall(r"(?<![\w/.])([a-z_]+)\.([a-z_]+)(?![\w.])", section)
    known = [(module, name) for module, name in named if module in functions and name != "py"]
    assert len(known) > 40
    absent = [f"{module}.{name}" for module, name in known if name not in functions[module]]
    assert absent == []


# -- links and paths


def _links(path: Path) -> Iterator[tuple[str, str]]:
    for target in re.findall(r"\]\(([^)\s]+)\)", _prose(path)):
        if not re.match(r"[a-z]+:", target):
            name, _, anchor = target.partition("#")
            yield name, anchor


def _anchors(path: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", _prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@each_case("path", DOCUMENTS)
def test_links_lead_to_files_and_headings(path: Path) -> None:
    for name, anchor in _links(path):
        target = path.parent / name if name else path
        assert target.exists(), name
        assert not anchor or anchor in _anchors(target), f"{name}#{anchor}"


def test_every_page_is_in_the_list_of_the_readme() -> None:
    pages = {str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")}
    assert pages - {name for name, _ in _links(ROOT / "README.md")} == set()


def _paths(path: Path) -> Iterator[str]:
    """The paths of this checkout in code spans and in command lines."""
    spans = re.findall(r"`([^`\n]+)`", _prose(path))
    commands = [line for _, block in FENCE.findall(_text(path)) for line in block.splitlines()]
    for text in (*spans, *(line for line in commands if "./scripts/" in line)):
        for word in text.split():
            word = word.removeprefix("./").rstrip(".,;:")
            if word.startswith(TOP) and re.fullmatch(r"[\w./-]+", word):
                yield word


@each_case("path", DOCUMENTS)
def test_paths_in_documents_exist(path: Path) -> None:
    places = [path.parent, ROOT, *(ROOT / package for package in PACKAGES)]
    missing = [
        name for name in _paths(path)
        if not any((place / name).exists() for place in places) and not name.startswith(ELSEWHERE)
    ]  # fmt: skip
    assert missing == []


# -- commands and configuration


def _commands() -> Iterator[str]:
    for path in DOCUMENTS:
        text = _text(path)
        blocks = "\n".join(block for _, block in FENCE.findall(text))
        for line in (*blocks.splitlines(), *re.findall(r"`([^`\n]+)`", _prose(path))):
            command = re.match(r"(?:[#$] |sudo )?(?:\./scripts/)?sandboxd ([a-z]+ ?.*)", line)
            if command:
                yield command[1]


EXAMPLES = {
    "ACCESS_KEY": "AK123", "N": "10", "FOLDER": "folder", "NAME": "python", "DIR": "/tmp",
    "FILE": "/tmp/config.toml", "ARGUMENT": "",
}  # fmt: skip
"""Values for the words in capitals that a command line in a document has."""


def test_every_command_line_in_the_documents_parses() -> None:
    commands = sorted(set(_commands()))
    assert len(commands) > 20
    options = parser()
    for command in commands:
        words = shlex.split(re.sub(r"[\[\]]", "", command), comments=True)
        if len(words) == 1 and words[0] in ("run", "shell"):
            words.append("folder")  # the name of the command alone
        if words == ["get"]:
            words += ["session", "file"]
        if words == ["keypair"]:
            words.append("list")
        try:
            options.parse_args([EXAMPLES.get(word, word) for word in words])
        except (ConfigError, SystemExit) as error:
            pytest.fail(f"sandboxd {command}: {error}")


def test_configuration_in_operations_is_accepted(tmp_path: Path) -> None:
    blocks = FENCE.findall(_section("docs/operations.md", "Configuration"))
    file = tmp_path / "config.toml"
    file.write_text("".join(block for kind, block in blocks if kind == "toml"))
    assert isinstance(toml_file.load(str(file)), Config)


def test_every_key_and_table_of_the_configuration_is_in_the_documents() -> None:
    """tests/test_sample.py does the same for each single key and the sample configuration."""
    documents = "".join(_text(path) for path in (ROOT / "docs").glob("*.md"))
    names = [field.name for field in dataclasses.fields(Config)]
    assert [name for name in names if not re.search(rf"\b{name}\b", documents)] == []


# -- words


def test_every_word_of_the_glossary_is_used_in_the_code() -> None:
    rows = re.findall(r"^\| ([^|]+) \|", _section("docs/architecture.md", "Words"), re.MULTILINE)
    words = [word.strip() for row in rows[1:] for word in row.split(",")]
    code = " ".join(_text(path) for path in (ROOT / "sandboxd").rglob("*.py")).lower()
    code = " ".join(code.split())
    assert len(words) > 50
    assert [word for word in words if not re.search(rf"\b{word}", code)] == []


def test_changelog_has_one_line_for_each_entry() -> None:
    lines = _text(ROOT / "CHANGELOG.md").splitlines()
    assert [line for line in lines if line.startswith(" ")] == []
    assert any(line.startswith("## ") for line in lines)


# -- dependencies


def _project() -> dict[str, list[str]]:
    project = tomllib.loads(_text(ROOT / "pyproject.toml"))["project"]
    return {"run": project["dependencies"], **project["optional-dependencies"]}


def _name(requirement: str) -> str:
    return re.split(r"[<>=~!\[ ]", requirement)[0].lower().replace("_", "-")


def test_every_dependency_of_the_daemon_is_bounded_above() -> None:
    assert [text for text in _project()["run"] if "<" not in text] == []


def test_every_dependency_is_pinned_and_has_its_reason() -> None:
    pinned = {_name(line) for line in _text(ROOT / "constraints.txt").split()}
    reasons = _section("docs/decisions.md", "Dependencies")
    for requirements in _project().values():
        for name in map(_name, requirements):
            assert name in pinned, name
            assert re.search(rf"\b{name}\b", reasons), name


# -- the tests that take long


def test_parts_of_test_world_are_explained_and_in_their_order_in_its_table() -> None:
    script = _text(ROOT / "scripts/test-world")
    (line,) = re.findall(r'^all="(.*)"$', script, re.MULTILINE)
    parts = line.split()
    assert re.findall(r"^do_(\w+)\(\)", script, re.MULTILINE) == parts
    assert re.findall(r"^# ([a-z]+) {2,}\S", script, re.MULTILINE) == parts
    begin, end = "<!-- test-world: begin -->\n", "<!-- test-world: end -->"
    table = _text(ROOT / "docs/operations.md").split(begin)[1].split(end)[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines()[2:]]
    assert rows == [part for part in parts if part in rows]  # a part that has run has a row
