"""Connections to a broker in a process of its own; the end of the process has the result as JSON.

    python -m tests.broker.flood CONNECTIONS RUNS

All happens in the network namespace of this process, which the test makes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import socket
import sys

from sandboxd import log
from sandboxd.broker import connection, run_link

from .links import eventually, serving

OF_SESSION, OF_OWNER = 64, 256
FILES = 12_000
BEGINNING = b"GET "
HELLO = b"GET / HTTP/1.1\r\n\r\n"


def memory(pid: int) -> int:
    """The most bytes that the process has had in memory."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        (line,) = (line for line in file if line.startswith("VmHWM:"))
    return int(line.split()[1]) << 10


async def flood(addresses: list[tuple[str, int]], count: int) -> int:
    """Open connections, and hold them; the number that were turned away."""
    loop, turned_away = asyncio.get_running_loop(), 0
    with contextlib.ExitStack() as stack:

        async def one(address: tuple[str, int]) -> int:
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            answer = b""
            # A client whose bytes are not acknowledged sends them again: a connection that the
            # full queue of the listening socket has dropped would else never know.
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                await loop.sock_connect(sock, address)
                await loop.sock_sendall(sock, BEGINNING)
                while data := await loop.sock_recv(sock, 4096):
                    answer += data
            return int(b" 503 " in answer)

        tasks = [loop.create_task(one(addresses[n % len(addresses)])) for n in range(count)]
        served = min(OF_OWNER, OF_SESSION * len(addresses))
        for ended in asyncio.as_completed(tasks):
            turned_away += await ended
            if turned_away == count - served:
                break
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return turned_away


async def broker(count: int, runs: int) -> None:
    """Be the broker, and start the process of the flood."""
    async with serving(OF_SESSION, OF_OWNER, connect_s=0.2) as world:
        addresses = [world.run(f"s{number}", "flood").address for number in range(runs)]
        other = world.run("other", "another")
        await eventually(lambda: len(world.broker.links) == runs + 1)
        before, most = memory(os.getpid()), 0
        command = [sys.executable, "-m", __spec__.name, "flood", str(count)]
        child = await asyncio.create_subprocess_exec(
            *command, *[str(port) for _, port in addresses], stdout=asyncio.subprocess.PIPE
        )
        reading = asyncio.create_task(child.communicate())
        requests = answers = 0
        while not reading.done():
            most = max(most, world.broker.connections.open)
            with await other.connect() as sock:
                await asyncio.get_running_loop().sock_sendall(sock, HELLO)
                answer = await asyncio.get_running_loop().sock_recv(sock, 4096)
                answers += b" 400 " in answer
            requests += 1
            await asyncio.wait({reading}, timeout=0.1)
        out, _ = await reading
        result = {
            "turned_away": json.loads(out), "most": most, "requests": requests, "answers": answers,
            "memory": memory(os.getpid()) - before, "outcomes": world.broker.connections.outcomes,
        }  # fmt: skip
    print(json.dumps(result))


def main() -> None:
    """Be the broker, or with `flood` the clients."""
    log.event = lambda *_, **__: None
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))
    if sys.argv[1] == "flood":
        addresses = [("127.0.0.1", int(port)) for port in sys.argv[3:]]
        print(asyncio.run(flood(addresses, int(sys.argv[2]))))
        return
    # The pace of one run, at which the flood would take minutes, has a test of its own.
    run_link.CONNECTIONS_A_SECOND = 100_000
    # Those that are served hold their places until the last of the others is turned away.
    connection.HEAD_S = 600.0  # type: ignore[attr-defined]  # it has the name from run_client
    asyncio.run(broker(int(sys.argv[1]), int(sys.argv[2])))


if __name__ == "__main__":
    main()
