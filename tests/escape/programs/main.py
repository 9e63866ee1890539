"""The acts of ordinary Python programs: each part prints its name when it has worked."""

import asyncio
import concurrent.futures
import ctypes
import fcntl
import mmap
import multiprocessing
import os
import select
import selectors
import signal
import socket
import sqlite3
import ssl
import subprocess
import tempfile
import threading
import time
import zoneinfo
from multiprocessing import shared_memory


def square(n: int) -> int:
    return n * n


def threads() -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(square, range(4))) == 14
    event = threading.Event()
    threading.Timer(0.01, event.set).start()
    assert event.wait(5)


def processes() -> None:
    for method in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert sum(pool.map(square, range(4))) == 14
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        assert sum(pool.map(square, range(4))) == 14
    done = subprocess.run(["sh", "-c", "cat; exit 3"], input=b"in", capture_output=True)
    assert (done.stdout, done.returncode) == (b"in", 3)
    shared = shared_memory.SharedMemory(create=True, size=4096)
    shared.close()
    shared.unlink()


def signals() -> None:
    got: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, frame: got.append(number))
    os.kill(os.getpid(), signal.SIGUSR1)
    signal.signal(signal.SIGALRM, lambda number, frame: got.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    time.sleep(0.1)
    assert got == [signal.SIGUSR1, signal.SIGALRM]
    child = subprocess.Popen(["sleep", "60"])
    child.send_signal(signal.SIGTERM)
    assert child.wait() == -signal.SIGTERM


async def talk() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(1))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"x")
    assert await reader.read() == b"x"
    child = await asyncio.create_subprocess_exec("echo", "7", stdout=subprocess.PIPE)
    assert (await child.communicate())[0] == b"7\n"
    assert await asyncio.to_thread(square, 3) == 9


def waiting() -> None:
    asyncio.run(talk())
    left, right = socket.socketpair()
    right.send(b"x")
    assert select.select([left], [], [], 5)[0] == [left]
    with selectors.DefaultSelector() as selector:
        selector.register(left, selectors.EVENT_READ)
        assert selector.select(5)


def files() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "f")
        with open(path, "w+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            fcntl.lockf(file, fcntl.LOCK_EX)
            file.truncate(8192)
            with mmap.mmap(file.fileno(), 8192) as mapped:
                mapped[0] = 7
        os.replace(path, path + "2")
    database = sqlite3.connect("db")
    database.execute("pragma journal_mode=wal")
    database.execute("create table t (n)")
    with database:
        database.execute("insert into t values (2)")
    assert database.execute("select n from t").fetchone() == (2,)


def library() -> None:
    assert ctypes.CDLL(None).getpid() == os.getpid()
    assert ssl.create_default_context() and zoneinfo.ZoneInfo("UTC")
    assert os.urandom(8) and os.cpu_count() and os.sched_getaffinity(0)


if __name__ == "__main__":
    for part in (threads, processes, signals, waiting, files, library):
        part()
        print(part.__name__)
