"""The flows of programs that use the streams of the asynchronous SDK; driver.py runs them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp  # type: ignore[import-not-found]  # in the client's environment
from ai.backend.client.exceptions import BackendAPIError  # type: ignore[import-not-found]  # in the client's environment


@contextlib.asynccontextmanager
async def new_session(api: Any, **options: Any) -> AsyncIterator[Any]:
    """A session, destroyed at the end."""
    session = await api.ComputeSession.get_or_create("gcc:latest", **options)
    try:
        yield session
    finally:
        with contextlib.suppress(BackendAPIError):
            await session.destroy()


async def run(session: Any, answers: tuple[str, ...] = (), **options: str) -> list[dict[str, Any]]:
    """The frames of a batch run over a WebSocket."""
    waiting = list(answers)
    frames: list[dict[str, Any]] = []
    async with session.stream_execute("", mode="batch", opts=options) as stream:
        async for message in stream:
            assert message.type == aiohttp.WSMsgType.TEXT, message
            assert len(message.data) < 1 << 20
            frames.append(json.loads(message.data))
            if frames[-1]["status"] == "waiting-input":
                await stream.send_str(waiting.pop(0))
    return frames


def text(frames: list[dict[str, Any]], kind: str = "stdout") -> str:
    """The text of a stream."""
    return "".join(data for frame in frames for type_, data in frame["console"] if type_ == kind)


async def flow_run_over_a_websocket(api: Any) -> None:
    async with new_session(api) as session:
        command = "read a; echo $a; echo oops >&2; exit 5"
        frames = await run(session, ("typed",), clean="true", build="echo built", exec=command)
        ends = [(f["status"], f["exitCode"]) for f in frames if f["status"] != "continued"]
        assert ends == [
            ("clean-finished", 0), ("build-finished", 0), ("waiting-input", None), ("finished", 5),
        ], frames  # fmt: skip
        assert text(frames) == "built\ntyped\n" and text(frames, "stderr") == "oops\n"


async def flow_a_flood_arrives_whole(api: Any) -> None:
    async with new_session(api) as session:
        printed = text(await run(session, exec="seq -f '%099.0f' 100000"))
        assert len(printed) == 10_000_000 and printed.endswith("100000\n")


async def flow_leaving_ends_the_run(api: Any) -> None:
    async with new_session(api) as session:
        opts = {"exec": "trap '' INT; echo began; sleep 600"}
        async with session.stream_execute("", mode="batch", opts=opts) as stream:
            async for message in stream:
                if "began" in message.data:
                    break
        assert text(await run(session, exec="echo next")) == "next\n"


async def send(stream: Any, kind: str, **fields: Any) -> None:
    """Send a frame to a terminal that the SDK has no call for."""
    await stream.send_json({"type": kind} | fields)


async def type_(stream: Any, text: str) -> None:
    """Type on a terminal."""
    await send(stream, "stdin", chars=base64.b64encode(text.encode()).decode())


async def shown(stream: Any, wanted: str) -> str:
    """The output of a terminal, up to the frame that has `wanted`."""
    data = ""
    async for message in stream:
        assert message.type == aiohttp.WSMsgType.TEXT, message
        frame = json.loads(message.data)
        assert frame["type"] == "out", frame
        data += base64.b64decode(frame["data"]).decode()
        if wanted in data:
            return data
    raise AssertionError(f"closed before {wanted!r}: {data!r}")


async def flow_terminal(api: Any) -> None:
    async with new_session(api) as session, session.stream_pty() as stream:
        stream.ws = stream.raw_websocket  # the SDK of this version forgets to set it
        await shown(stream, "$ ")
        await stream.resize(40, 120)
        await type_(stream, "tty; stty size; echo on $((40 + 2))\n")
        assert "/dev/pts/0\r\n40 120\r\n" in await shown(stream, "on 42")
        await send(stream, "ping")
        await type_(stream, "sleep 60\n")
        await shown(stream, "sleep 60\r\n")
        await stream.restart()
        await type_(stream, "stty size; ps -e | grep -c sleep\n")
        assert "40 120\r\n0" in await shown(stream, "\r\n0\r\n")
        await type_(stream, "exit 3\n")
        *_, last = [message async for message in stream]
        end = json.loads(last.data)
        assert (end["type"], end["exitCode"]) == ("end", 3), end


async def flow_terminal_and_runs_side_by_side(api: Any) -> None:
    async with new_session(api) as session, session.stream_pty() as stream:
        await shown(stream, "$ ")
        assert text(await run(session, exec="echo made > file; echo done")) == "done\n"
        await type_(stream, "cat file\n")
        await shown(stream, "made\r\n")
        await session.destroy()
        kinds = [json.loads(message.data)["type"] async for message in stream]
        assert kinds[-2:] == ["error", "end"], kinds


async def flow_stream_of_somebody_elses_session_is_refused(api: Any) -> None:
    stranger = api.ComputeSession("no-such-session")
    try:
        async with stranger.stream_execute("", mode="batch"):
            raise AssertionError("it was let in")
    except aiohttp.WSServerHandshakeError as error:
        assert error.status == 404
    except Exception as error:  # the client wraps the refusal in one of its own
        assert "Invalid response status" in repr(error) or "404" in repr(error), repr(error)


async def flow_events_of_a_session(api: Any) -> None:
    async with new_session(api) as session:
        names = []
        async with session.listen_events() as stream:
            destroying = asyncio.create_task(session.destroy())
            async for event in stream:
                names.append(event.event)
                if event.event != "server_close":
                    data = json.loads(event.data)
                    assert data["sessionId"] == str(session.id), data
                    assert event.event.endswith("started") or data["reason"] == "user-requested"
            await destroying
        assert names == [
            "kernel_started", "session_started", "kernel_terminating", "session_terminating",
            "kernel_terminated", "session_terminated", "server_close",
        ], names  # fmt: skip


async def flow_events_of_a_batch_session_have_its_exit_code(api: Any) -> None:
    batch = {"type_": "batch", "startup_command": "sleep 0.5; exit 6"}
    async with new_session(api, **batch) as session:
        async with session.listen_events(scope="session") as stream:
            async for event in stream:
                if event.event == "session_failure":
                    assert json.loads(event.data)["exitCode"] == 6
                    return
        raise AssertionError("no result was reported")


async def flow_who_begins_to_listen_while_creating_or_destroying_hears_of_it(api: Any) -> None:
    for number in range(5):
        name = f"heard-{number}"

        async def heard(last: str, name: str = name) -> dict[str, Any]:
            async with api.ComputeSession(name).listen_events() as stream:
                async for event in stream:
                    if event.event == last:
                        content: dict[str, Any] = json.loads(event.data)
                        return content
            raise AssertionError(f"{last} was not reported")

        listening = asyncio.create_task(heard("session_started"))
        session = await api.ComputeSession.get_or_create("gcc:latest", name=name)
        assert (await listening)["sessionId"] == str(session.id)
        listening = asyncio.create_task(heard("session_terminated"))
        await session.destroy()
        assert (await listening)["reason"] == "user-requested"
