"""The wire between the warden, the api and the shims, in both directions, over real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import selectors
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from sandboxd.api.processes.leased_slot import LeasedSlot
from sandboxd.api.processes.warden_client import WardenClient
from sandboxd.errors import SandboxdError
from sandboxd.runs.channel import Channel
from sandboxd.shim.control import Control, RunProgress
from sandboxd.shim.input_stream import InputStream
from sandboxd.shim.terminal import typed
from sandboxd.warden.requests.dispatcher import Act, Dispatcher
from sandboxd.warden.requests.replies import PendingReply, Result
from sandboxd.wire import messages
from sandboxd.wire.ops import OPS, Op

from ..descriptors import open_descriptors
from ..wire_values import VALID
from .values import changed, effort, encoded, objects, packets, small_effort, values

Sent = tuple[bytes, list[int]]

KINDS = ("memfd", "socket", "directory", "pipe", "device")
ROUNDS = 8
"""Packets of one conversation at most."""


def opened(kind: str) -> int:
    """A descriptor of this kind."""
    match kind:
        case "memfd":
            return os.memfd_create("fuzz")
        case "socket":
            one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            other.close()
            return one.detach()
        case "pipe":
            reading, writing = os.pipe()
            os.close(writing)
            return reading
    return os.open("/" if kind == "directory" else "/dev/null", os.O_RDONLY)


@contextmanager
def socket_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a conversation. No descriptor is left open at its end."""
    before = open_descriptors()
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        yield ends
    finally:
        for end in ends:
            end.close()
    assert open_descriptors() <= before


def send(sock: socket.socket, packet: bytes, kinds: list[str]) -> None:
    """Send a packet with descriptors of these kinds."""
    fds = [opened(kind) for kind in kinds]
    try:
        socket.send_fds(sock, [packet], fds) if fds else sock.send(packet)
    finally:
        messages.close_all(fds)


def received(sock: socket.socket) -> list[dict[str, Any]]:
    """The messages that have come, without their descriptors."""
    sock.setblocking(False)
    arrived = []
    try:
        while True:
            message, fds = messages.receive(sock)
            messages.close_all(fds)
            if message is None:
                break
            arrived.append(message)
    except (BlockingIOError, ConnectionError):
        pass
    return arrived


# -- api -> warden


def recording_acts(accepted: list[str]) -> dict[str, Act]:
    """Acts that note their request and answer as the table says."""

    def act_of(op: Op) -> Callable[..., Result | None]:
        def act(*reply: PendingReply, **arguments: Any) -> Result | None:
            assert arguments.keys() == {*op.arguments, *(one.name for one in op.sends)}
            accepted.append(op.name)
            fields = {name: VALID[name] for name in op.reply}
            if op.later:
                reply[0].succeed(Result(fields))
            return None if op.later else Result(fields)

        return act

    return {name: act_of(op) for name, op in OPS.items()}


def valid_request(op: Op) -> dict[str, Any]:
    return {"op": op.name, "id": 1} | {name: VALID[name] for name in op.arguments}


requests = st.sampled_from(list(OPS.values())).flatmap(lambda op: changed(valid_request(op)))


@small_effort
@hypothesis.given(
    st.lists(
        st.tuples(requests.map(encoded) | packets, st.lists(st.sampled_from(KINDS), max_size=9)),
        max_size=ROUNDS,
    )
)
def test_warden_answers_each_message_of_a_hostile_api_once_and_survives(
    sent: list[tuple[bytes, list[str]]],
) -> None:
    with socket_pair() as (api, warden):
        accepted: list[str] = []
        dispatcher = Dispatcher(warden, recording_acts(accepted))
        served, goes_on = 0, True
        for packet, kinds in sent:
            if not goes_on:
                break
            send(api, packet, kinds)
            goes_on = dispatcher.serve_one()
            served += goes_on
        replies = received(api)
        assert len(replies) == served
        assert sum(reply["ok"] for reply in replies) == len(accepted)
        for reply in replies:
            assert reply["ok"] or {"id", "error", "kind"} <= reply.keys()


# -- warden -> api

CALLS: dict[str, Callable[[WardenClient], Any]] = {
    "ping": lambda client: client.ping(),
    "sweep": lambda client: client.sweep(),
    "lease": lambda client: client.lease(VALID["session"], "a", VALID["size"], VALID["inodes"], []),
    "files": lambda client: client.files(VALID["slot"], VALID["session"]),
    "release": lambda client: client.release(VALID["slot"], VALID["session"]),
    "folder_files": lambda client: client.folder_files(VALID["folder"]),
}
"""A call of the client for some requests of each form of reply."""


def valid_reply(op: Op) -> dict[str, Any]:
    return {"id": 1, "ok": True} | {name: VALID[name] for name in op.reply}


REFUSAL = {"id": 1, "ok": False, "error": "x", "kind": "stage", "stage": "fork", "errno": 11}
replies = st.sampled_from(sorted(CALLS)).flatmap(
    lambda name: st.tuples(
        st.just(name),
        (changed(valid_reply(OPS[name])) | changed(REFUSAL)).map(encoded) | packets,
        st.lists(st.sampled_from(KINDS), max_size=3),
    )
)


@small_effort
@hypothesis.given(replies)
def test_reply_of_a_warden_gone_mad_is_a_result_or_an_error_of_sandboxd(
    case: tuple[str, bytes, list[str]],
) -> None:
    name, packet, kinds = case

    async def converse() -> None:
        client = WardenClient(api)
        serving = asyncio.create_task(client.serve())
        call = asyncio.create_task(CALLS[name](client))
        while not (await asyncio.to_thread(warden.recv, messages.PACKET)):
            pass
        send(warden, packet, kinds)
        warden.shutdown(socket.SHUT_WR)
        try:
            result = await call
        except SandboxdError:
            pass
        else:
            if isinstance(result, Channel | LeasedSlot):
                result.close()
        await serving

    with socket_pair() as (api, warden):
        asyncio.run(converse())


# -- api -> shim

MESSAGES: tuple[dict[str, Any], ...] = (
    {"op": "watch", "console": 0, "journal": 0, "waiting": False},
    {"op": "input", "text": "x", "eof": False},
    {"op": "hold", "console": 5},
    {"op": "signal", "name": "SIGINT", "by": "client"},
)
shim_messages = st.sampled_from(MESSAGES).flatmap(changed)


@small_effort
@hypothesis.given(
    st.lists(
        st.tuples(
            shim_messages.map(encoded) | packets, st.lists(st.sampled_from(KINDS), max_size=2)
        ),
        max_size=ROUNDS,
    )
)
def test_control_socket_of_a_shim_survives_any_packet(
    tmp_path_factory: pytest.TempPathFactory, sent: list[tuple[bytes, list[str]]]
) -> None:
    path = str(tmp_path_factory.mktemp("s") / "s")
    handled: list[dict[str, Any]] = []

    def handle(message: dict[str, Any], fds: list[int]) -> None:
        messages.close_all(fds)
        handled.append(message)

    selector = selectors.DefaultSelector()
    with selector, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen()
        Control(selector, listener, lambda: RunProgress(9, 9, True), handle)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            client.connect(path)
            for packet, kinds in sent:
                try:
                    send(client, packet, kinds)
                except ConnectionError:  # the shim has hung up on a packet that is no message
                    break
                _turn(selector)
        while len(selector.get_map()) > 1:
            _turn(selector)
    assert all(message.get("op") != "watch" for message in handled)


def _turn(selector: selectors.BaseSelector) -> None:
    for key, _ in selector.select(0):
        key.data(key.fd)


@effort
@hypothesis.given(shim_messages | st.fixed_dictionaries({"text": values(), "chars": values()}))
def test_fields_of_a_message_to_a_shim_are_read_as_what_they_shall_be(
    message: dict[str, Any],
) -> None:
    for key in message:
        assert isinstance(messages.number(message, key), int)
        assert isinstance(messages.text(message, key), bytes)
    assert isinstance(typed(message), bytes)


@small_effort
@hypothesis.given(st.lists(st.binary(max_size=40).filter(bool) | packets.filter(bool), max_size=20))
def test_streamed_input_survives_any_packet(sent: list[bytes]) -> None:
    with socket_pair() as (api, shim), selectors.DefaultSelector() as selector:
        stream = InputStream(selector, lambda: None, closed=True)
        stream.attach(shim.detach())
        for packet in sent:
            api.send(packet[: messages.INPUT_PIECE + 1])
            _turn(selector)
        reports = received(api)
        assert reports and all({"taken", "ended", "closed"} == one.keys() for one in reports)
        stream.detach()


# -- shim -> api


@small_effort
@hypothesis.given(st.lists(packets.filter(bool), max_size=ROUNDS))
def test_channel_gives_messages_or_an_end_for_any_packets(sent: list[bytes]) -> None:
    async def receive_all() -> None:
        channel = Channel(receiver)
        try:
            while True:
                message, fds = await channel.receive_message()
                messages.close_all(fds)
                if message is None:
                    return
                assert isinstance(message, dict)
        except messages.WireError:
            pass
        finally:
            channel.close()

    with socket_pair() as (sender, receiver):
        for packet in sent:
            sender.send(packet)
        sender.shutdown(socket.SHUT_WR)
        asyncio.run(receive_all())


@small_effort
@hypothesis.given(objects("op", "id") | st.builds(dict, a=values()))
def test_message_survives_the_round_trip(message: dict[str, Any]) -> None:
    with socket_pair() as (one, other):
        try:
            messages.send(one, message)
        except (messages.WireError, UnicodeEncodeError):
            return
        assert repr(messages.receive(other)[0]) == repr(json.loads(json.dumps(message)))
