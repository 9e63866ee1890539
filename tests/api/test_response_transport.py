"""The transport of a response: one packet for head and body, and no head that waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from sandboxd.api.http.response_transport import ResponseTransport

from ..each_case import each_case


class Connection(asyncio.Transport):
    """A connection that records its packets."""

    def __init__(self) -> None:
        super().__init__()
        self.packets: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.packets.append(bytes(data))

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True


async def body_at_once(response: ResponseTransport) -> None:
    response.write(b"head;")
    response.write(b"body")


async def body_later(response: ResponseTransport) -> None:
    response.write(b"head;")
    await asyncio.sleep(0)
    response.write(b"body")


async def two_pieces(response: ResponseTransport) -> None:
    await body_at_once(response)
    response.write(b"more")
    await asyncio.sleep(0)


async def head_alone(response: ResponseTransport) -> None:
    response.write(b"head;")
    await asyncio.sleep(0)


async def close_behind_the_head(response: ResponseTransport) -> None:
    response.write(b"head;")
    response.close()
    await asyncio.sleep(0)


@each_case(
    ("act", "packets"),
    [
        (body_at_once, [b"head;body"]),
        (body_later, [b"head;", b"body"]),
        (two_pieces, [b"head;body", b"more"]),
        (head_alone, [b"head;"]),
        (close_behind_the_head, [b"head;"]),
    ],
)
def test_head_of_a_response_goes_with_its_body_or_by_itself_a_moment_later(
    act: Callable[[ResponseTransport], Awaitable[None]], packets: list[bytes]
) -> None:
    async def scenario() -> Connection:
        connection = Connection()
        response = ResponseTransport(connection, asyncio.get_running_loop())
        await act(response)
        assert response.is_closing() == connection.is_closed == (act is close_behind_the_head)
        return connection

    assert asyncio.run(scenario()).packets == packets
