"""The follower of a shim with the program's uid: bad messages end one run and nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import selectors
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from sandboxd.runs.channel import Channel
from sandboxd.runs.follower import Follower, StartedRun
from sandboxd.runs.journal import NO_POSITION
from sandboxd.shim.control import Control, RunProgress
from sandboxd.spool import START
from sandboxd.wire import messages
from tests.api.fake_shim import KEEP

from ..descriptors import open_descriptors
from ..waiting import PATIENCE_S

Shim = Callable[[Channel, Path], Awaitable[None]]


async def follow(base: Path, shim: Shim) -> Follower:
    """A follower at the end of what `shim` does at its end of the socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    flags = os.O_RDWR | os.O_CREAT
    console, journal, cursor = (os.open(base / n, flags) for n in ("console", "journal", "cursor"))
    os.close(cursor)
    follower = Follower(StartedRun(Channel(ours), console, journal, cursor), KEEP, lambda: None)
    other = Channel(theirs)
    try:
        async with asyncio.timeout(PATIENCE_S):
            task = asyncio.create_task(follower.follow())
            await shim(other, base)
            other.close()
            await task
    finally:
        follower.spool.close()
    return follower


@pytest.mark.parametrize("packet", [b"", b"x", b"[]", b"{", b"[" * 10_000, b"\xff"])
def test_shim_that_sends_an_invalid_message_ends_the_run_with_our_fault(
    tmp_path: Path, packet: bytes
) -> None:
    async def shim(channel: Channel, _: Path) -> None:
        await channel.receive_message()
        await channel.send_packet(packet)

    follower = asyncio.run(follow(tmp_path, shim))
    assert follower.over and follower.events[-1].exit == -1


def test_descriptors_from_a_shim_are_closed_and_end_the_run(tmp_path: Path) -> None:
    async def shim(channel: Channel, _: Path) -> None:
        fd = os.memfd_create("x")
        await channel.send_message({"console": 0, "journal": 0, "waiting": False}, [fd] * 3)
        os.close(fd)

    before = open_descriptors()
    assert asyncio.run(follow(tmp_path, shim)).over
    assert open_descriptors() <= before


@pytest.mark.parametrize(
    "answer",
    [{}, {"console": "x", "journal": [], "waiting": 1}, {"console": -1, "journal": 1 << 70}],
)
def test_shim_answer_that_cannot_be_true_changes_nothing(
    tmp_path: Path, answer: dict[str, Any]
) -> None:
    async def shim(channel: Channel, _: Path) -> None:
        await channel.send_message(answer)

    follower = asyncio.run(follow(tmp_path, shim))
    assert not follower.awaits_input and not follower.output and follower.events[-1].exit == -1


def test_shim_that_answers_without_news_does_not_keep_the_daemon_busy(tmp_path: Path) -> None:
    watches = 0

    async def shim(channel: Channel, _: Path) -> None:
        nonlocal watches
        try:
            async with asyncio.timeout(0.5):
                while (await channel.receive_message())[0]:
                    watches += 1
                    await channel.send_message({"console": 0, "journal": 0, "waiting": False})
        except TimeoutError:
            pass

    asyncio.run(follow(tmp_path, shim))
    assert 0 < watches < 15


def test_journal_that_goes_on_after_its_final_event_is_read_no_further(tmp_path: Path) -> None:
    async def shim(_: Channel, base: Path) -> None:
        lines = [{"event": "step", "step": s, "exit": 0, "console": 0} for s in
                 ("clean", "build", "exec", "clean")]  # fmt: skip
        (base / "journal").write_text("".join(json.dumps(line) + "\n" for line in lines))

    events = asyncio.run(follow(tmp_path, shim)).events
    assert [event.step for event in events] == ["clean", "build", "exec"]


def test_watch_names_console_positions_only_for_a_client_that_wants_output(tmp_path: Path) -> None:
    seen = []

    async def shim(channel: Channel, _: Path) -> None:
        seen.append((await channel.receive_message())[0])

    asyncio.run(follow(tmp_path, shim))
    assert seen == [{"op": "watch", "console": NO_POSITION, "journal": 0, "waiting": False}]
    assert messages.number(seen[0] or {}, "console") == NO_POSITION  # as the shim reads it
    assert len(messages.encode({"console": NO_POSITION})) < 100


def test_client_that_waits_for_the_end_sends_no_watch(tmp_path: Path) -> None:
    async def scenario() -> tuple[Follower, dict[str, Any] | None]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        console, journal = (
            os.open(tmp_path / n, os.O_RDWR | os.O_CREAT) for n in ("console", "journal")
        )
        started = StartedRun(Channel(ours), console, journal, -1)
        follower = Follower(started, KEEP, lambda: None, passes_over=True)
        task = asyncio.create_task(follower.follow())
        await asyncio.sleep(0)
        sent = Channel(theirs).arrived_message()
        event = {"event": "step", "step": "clean", "exit": None, "console": 0}
        (tmp_path / "journal").write_text(json.dumps(event) + "\n")
        theirs.close()
        await task
        follower.spool.close()
        return follower, sent and sent[0]

    follower, sent = asyncio.run(asyncio.wait_for(scenario(), PATIENCE_S))
    assert sent is None
    assert follower.over and [event.step for event in follower.events] == ["clean"]


def test_program_that_prints_without_end_does_not_cost_its_client_the_shim(tmp_path: Path) -> None:
    """Against the shim's own half, which lets go of a reader that does not take its answers."""

    async def go() -> bool:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(str(tmp_path / "control"))
        listener.listen()
        selector = selectors.DefaultSelector()
        console_end = time.monotonic_ns  # it grows while nobody looks, as that of `yes` does

        def progress() -> RunProgress:
            return RunProgress(console_end(), 0, False)

        Control(selector, listener, progress, lambda _, __: None)

        def serve() -> None:
            for key, _ in selector.select(0):
                key.data(key.fd)

        loop = asyncio.get_running_loop()
        loop.add_reader(selector.fileno(), serve)
        ours = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.connect(str(tmp_path / "control"))
        flags = os.O_RDWR | os.O_CREAT
        console, journal = (os.open(tmp_path / name, flags) for name in ("console", "journal"))
        follower = Follower(StartedRun(Channel(ours), console, journal, -1), KEEP, lambda: None)
        task = asyncio.create_task(follower.follow())
        for number in range(3000):  # a client that takes frame after frame, in bursts
            await follower.want_output(console_end())
            if number % 4 == 3:
                await asyncio.sleep(0.001)
        followed = not follower.over
        follower.close()
        await task
        follower.spool.close()
        loop.remove_reader(selector.fileno())
        serve()  # the end of the connection
        listener.close()
        selector.close()
        return followed

    assert asyncio.run(go())


def test_client_that_waits_for_output_from_the_beginning_needs_one_watch(tmp_path: Path) -> None:
    async def scenario() -> list[dict[str, Any]]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        names = ("console", "journal")
        console, journal = (os.open(tmp_path / n, os.O_RDWR | os.O_CREAT) for n in names)
        started = StartedRun(Channel(ours), console, journal, -1)
        follower = Follower(started, KEEP, lambda: None, wanted=START)
        other = Channel(theirs)
        task = asyncio.create_task(follower.follow())
        received = [(await other.receive_message())[0]]
        await follower.want_output(START)  # is watched already
        await follower.want_output(START + 1)
        received.append((await other.receive_message())[0])
        await other.send_message({"console": START + 9, "journal": 0, "waiting": False})
        await asyncio.sleep(0)
        await follower.want_output(START + 1)  # output has come since
        received.append((await other.receive_message())[0])
        other.close()
        await task
        await follower.want_output(START)  # the run is over
        follower.spool.close()
        return [message for message in received if message]

    watches = asyncio.run(asyncio.wait_for(scenario(), PATIENCE_S))
    assert [watch["console"] for watch in watches][:2] == [START, START + 1]
    assert len(watches) == 3
