"""Every exception has an answer, and no answer tells what is inside."""

from __future__ import annotations

from sandboxd.api.http import problems
from sandboxd.errors import Exists, NotFound, SandboxdError, StageError, Unavailable
from sandboxd.wire import file_calls, messages

assert file_calls and messages  # their exceptions belong to the tree


def tree(root: type[SandboxdError]) -> list[type[SandboxdError]]:
    return [root, *(c for child in root.__subclasses__() for c in tree(child))]


def test_every_class_of_the_tree_has_a_mapping() -> None:
    modules = [(c, c.__module__) for c in tree(SandboxdError)]
    # those of the command line are never raised in the api
    ours = [c for c, name in modules if name.startswith("sandboxd.") and ".cli." not in name]
    assert [c for c in ours if c not in problems.TABLE] == []


def test_a_missing_thing_is_named_by_its_kind() -> None:
    status, body = problems.of_error(NotFound("environment image", "no cobol", {"available": []}))
    assert status == 404
    assert body == {
        "type": "https://api.backend.ai/probs/object-not-found",
        "title": "No such environment image.",
        "msg": "no cobol",
        "data": {"available": []},
    }


def test_an_existing_session_is_a_400_that_names_it() -> None:
    status, body = problems.of_error(Exists("there is one", {"existingSessionId": "x"}))
    assert status == 400 and body["type"].endswith("/session-already-exists")
    assert body["data"] == {"existingSessionId": "x"}


def test_a_failed_stage_says_which_and_why() -> None:
    status, body = problems.of_error(StageError("mounts", "no", 13))
    assert status == 503 and body["data"] == {"stage": "mounts", "errno": 13}


def test_an_unavailable_service_is_503() -> None:
    assert problems.of_error(Unavailable("full"))[0] == 503


def test_the_problem_document_of_an_internal_error_has_no_cause() -> None:
    status, body = problems.of_error(messages.WireError("secret detail"))
    assert status == 500 and "secret" not in str(body)
