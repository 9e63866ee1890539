"""The texts of exceptions that clients read: they name no file of the host."""

from __future__ import annotations

import ast
import errno
import sqlite3
from pathlib import Path

from sandboxd import errors
from sandboxd.errors import SandboxdError, StageError, Unavailable
from sandboxd.runs.journal import parse
from sandboxd.store.database import Unwritable
from sandboxd.wire import file_calls, messages
from scripts.measures.tree import PACKAGE, Source, Tree

from .each_case import each_case

HIDDEN = "'/var/lib/sandboxd/slots/7': Permission denied"


def tree(root: type[SandboxdError]) -> list[type[SandboxdError]]:
    return [root, *(c for child in root.__subclasses__() for c in tree(child))]


CLASSES = [one for one in tree(SandboxdError) if one.__module__.startswith("sandboxd.")]
TEXT_IS_PUBLIC = {one.__name__ for one in CLASSES if issubclass(one, (errors.Refused, Unavailable))}


def test_an_exception_keeps_its_text_from_clients_unless_its_class_is_made_for_them() -> None:
    public = [one for one in CLASSES if "public" in vars(one)]
    assert {*public} == {SandboxdError, errors.Refused, StageError, Unavailable, messages.Starved}
    for error in (SandboxdError(HIDDEN), errors.ConfigError(HIDDEN), messages.WireError(HIDDEN)):
        assert "/" not in error.public and HIDDEN in str(error)


@each_case("stage", ["mounts /opt/tool", "mounts", "cgroup memory.max"])
@each_case("number", [0, errno.EACCES])
def test_a_stage_error_shows_stage_and_errno(stage: str, number: int) -> None:
    error = StageError(stage, HIDDEN, number)
    assert HIDDEN in str(error) and stage in str(error)
    assert error.public.startswith(f"stage {stage.removesuffix(' /opt/tool')}: ")
    assert "/" not in error.public and ("errno 13" in error.public) == bool(number)


def test_an_os_error_becomes_a_stage_error_without_its_path() -> None:
    error = StageError.of("scratch", PermissionError(13, "Permission denied", "/srv/state/x"))
    assert "/srv/state/x" in str(error)
    assert error.public == "stage scratch: Permission denied (errno 13)"


def test_the_detail_of_an_unavailable_is_for_the_log() -> None:
    for error in (Unavailable("busy", HIDDEN), Unwritable("busy", HIDDEN)):
        assert (error.public, str(error)) == ("busy", f"busy: {HIDDEN}")
    assert isinstance(Unwritable("busy"), sqlite3.OperationalError)


def test_a_fault_of_a_file_helper_is_for_the_log() -> None:
    error = file_calls.refusal({"ok": False, "kind": "fault", "error": f"stage view: {HIDDEN}"})
    assert HIDDEN in str(error) and "/" not in error.public


@each_case("number", [13, 0, -1, 10**30, "13", None, True])
def test_a_fault_in_a_journal_shows_stage_and_errno(number: object) -> None:
    line = {"event": "fault", "stage": "mounts /opt/x", "errno": number, "message": HIDDEN}
    (event,) = parse([line | {"console": 0}])
    assert "/" not in event.fault and event.fault.startswith("stage mounts: ")
    assert HIDDEN in event.cause


HARMLESS = {"errno", "public", "start", "strerror"}
"""Attributes of an exception that name no file."""


def exposed(source: Source) -> list[str]:
    """The calls that put an exception into a text for clients."""
    places = []
    for node in source.nodes:
        if isinstance(node, ast.Call) and node.args and called(node) in TEXT_IS_PUBLIC:
            message = node.args[1 if called(node) == "NotFound" and len(node.args) > 1 else 0]
            harmless = {
                inner.value for inner in ast.walk(message)
                if isinstance(inner, ast.Attribute) and inner.attr in HARMLESS
            }  # fmt: skip
            names = [inner for inner in ast.walk(message) if isinstance(inner, ast.Name)]
            places += [
                str(source.place(node, ast.unparse(node)))
                for name in names
                if name.id in ("error", "exc", "exception") and name not in harmless
            ]
    return places


def called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else ""


def test_no_text_for_clients_is_made_of_an_exception() -> None:
    sources = Tree.read(Path(__file__).parents[1]).below(PACKAGE)
    daemon = [source for source in sources if not source.path.startswith("sandboxd/cli/")]
    places = [place for source in daemon for place in exposed(source)]
    # msgspec's text is about the frame of the client.
    assert [place.split(":")[0] for place in places] == ["sandboxd/api/routes/frames.py"], places


def test_a_text_that_is_made_of_an_exception_is_seen() -> None:
    assert exposed(Source("x.py", 'raise Unavailable(f"no: {error}")'))
    assert exposed(Source("x.py", 'raise NotFound("path", str(error))'))
    assert not exposed(Source("x.py", 'raise Unavailable(f"no: {error.strerror}", str(error))'))
