"""The dispatcher of requests: each request gets one reply, and descriptors never stay open."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import pytest

from sandboxd.config.settings import STEP_LIMITS
from sandboxd.errors import Invalid, StageError
from sandboxd.model import STEPS
from sandboxd.warden.requests.dispatcher import Dispatcher, acts_of
from sandboxd.warden.requests.replies import PendingReply, Result
from sandboxd.wire import messages
from sandboxd.wire.ops import OPS, Request

from ...descriptors import open_descriptors

SESSION = "00000000-0000-4000-8000-000000000001"
FILES = {"op": "files", "id": 5, "slot": 1, "session": SESSION}


class Conversation:
    """A dispatcher and the api's end of its socket. `act` carries out every request."""

    def __init__(self) -> None:
        self.api, sock = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.warden = sock
        self.act: Any = lambda **_: Result()
        acts = dict.fromkeys(OPS, lambda *reply, **arguments: self.act(*reply, **arguments))
        self.dispatcher = Dispatcher(sock, acts)

    def ask(self, message: dict[str, Any], *fds: int) -> tuple[dict[str, Any], list[int]]:
        """The reply to `message`."""
        messages.send(self.api, message, list(fds))
        assert self.dispatcher.serve_one()
        reply, descriptors = messages.receive(self.api)
        assert reply is not None
        return reply, descriptors


@pytest.fixture
def conversation() -> Iterator[Conversation]:
    before = open_descriptors()
    both = Conversation()
    yield both
    both.api.close()
    both.warden.close()
    assert open_descriptors() <= before, "descriptors are left"


def test_result_is_sent_with_its_descriptors_which_are_closed(conversation: Conversation) -> None:
    conversation.act = lambda **_: Result(descriptors=[os.memfd_create("x")])
    reply, fds = conversation.ask(FILES)
    assert reply == {"id": 5, "ok": True} and len(fds) == 1
    messages.close_all(fds)


def test_act_gets_checked_arguments_by_name(conversation: Conversation) -> None:
    calls: list[dict[str, Any]] = []

    def act(**arguments: Any) -> Result:
        calls.append(arguments)
        return Result()

    conversation.act = act
    conversation.ask(FILES)
    assert calls == [{"slot": 1, "session": SESSION}]


@pytest.mark.parametrize(
    ("error", "fields"),
    [
        (StageError("mounts", "no", 1), {"kind": "stage", "stage": "mounts", "errno": 1}),
        (Invalid("no"), {"kind": "invalid"}),
        (OSError(24, "no"), {"kind": "stage", "stage": "warden", "errno": 24}),
    ],
)
def test_error_of_an_act_is_the_reply(
    conversation: Conversation, error: Exception, fields: dict[str, Any]
) -> None:
    def act(**_: Any) -> Result:
        raise error

    conversation.act = act
    reply, _ = conversation.ask(FILES)
    assert reply == {"id": 5, "ok": False, "error": "no"} | fields


@pytest.mark.parametrize(
    ("message", "number"),
    [
        ({}, 0),
        ({"op": "exec", "id": 5}, 5),
        (FILES | {"id": "5"}, 0),
        (FILES | {"id": True}, 0),
        (FILES | {"session": None}, 5),
        (FILES | {"path": "/"}, 5),
    ],
)
def test_request_that_is_not_of_the_table_reaches_no_act(
    conversation: Conversation, message: dict[str, Any], number: int
) -> None:
    conversation.act = None
    reply, _ = conversation.ask(message)
    assert (reply["id"], reply["ok"], reply["kind"]) == (number, False, "invalid")


def test_descriptors_of_a_refused_request_are_closed(conversation: Conversation) -> None:
    with open("/dev/null") as null:
        reply, _ = conversation.ask(FILES, null.fileno(), null.fileno())
    assert reply["kind"] == "invalid"


def test_request_that_takes_its_time_is_answered_when_it_is_done(
    conversation: Conversation,
) -> None:
    pending: list[PendingReply] = []
    conversation.act = lambda reply, **_: pending.append(reply)
    messages.send(conversation.api, FILES | {"op": "release", "id": 1})
    assert conversation.dispatcher.serve_one()
    conversation.act = lambda **_: Result({"vitals": {}})
    assert conversation.ask({"op": "ping", "id": 2})[0]["id"] == 2
    pending[0].finish(StageError("release", "left"))
    reply, _ = messages.receive(conversation.api)
    assert reply is not None and (reply["id"], reply["stage"]) == (1, "release")


def test_reply_to_an_api_that_has_ended_closes_its_descriptors(conversation: Conversation) -> None:
    conversation.act = lambda **_: Result(descriptors=[os.memfd_create("x")])
    messages.send(conversation.api, FILES)
    conversation.api.shutdown(socket.SHUT_RD)
    assert conversation.dispatcher.serve_one()


@pytest.mark.parametrize("packet", [b"nonsense", b"[]"])
def test_packet_that_is_no_message_ends_the_conversation(
    conversation: Conversation, packet: bytes
) -> None:
    conversation.api.send(packet)
    assert not conversation.dispatcher.serve_one()


def test_closed_socket_ends_the_conversation(conversation: Conversation) -> None:
    conversation.api.close()
    assert not conversation.dispatcher.serve_one()


def test_table_without_an_act_is_not_served() -> None:
    with pytest.raises(AssertionError, match="no act"):
        acts_of(object())


def test_request_that_is_kept_back_has_its_descriptors_until_it_is_answered(
    conversation: Conversation,
) -> None:
    waiting: list[Callable[[StageError | None], None]] = []

    def hold(_: Request, go_on: Callable[[StageError | None], None]) -> bool:
        waiting.append(go_on)
        return True

    conversation.dispatcher._hold = hold
    conversation.act = lambda stdin, **_: Result(descriptors=[os.dup(stdin)])
    stdin = os.memfd_create("stdin")
    start = {
        "op": "start", "id": 6, "slot": 1, "session": SESSION, "run": 1, "shell": "/bin/sh",
        "steps": [], "environ": {}, "terminal": False, "interactive": False, "runtime": "",
    }  # fmt: skip
    start["steps"] = [
        {"name": name, "command": None, "limits": asdict(STEP_LIMITS)} for name in STEPS
    ]
    for error in (None, StageError("scratch", "Input/output error", 5)):
        messages.send(conversation.api, start, [stdin])
        assert conversation.dispatcher.serve_one()
        waiting.pop()(error)
        reply, fds = messages.receive(conversation.api)
        assert reply and reply["ok"] is (error is None), reply
        assert len(fds) == int(error is None)
        messages.close_all(fds)
    os.close(stdin)
