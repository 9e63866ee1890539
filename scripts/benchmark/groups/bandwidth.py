"""The bandwidths of upload, download and console, in MB (10^6 bytes) a second."""

from __future__ import annotations

from functools import partial
from statistics import median

from ..bench import Bench, timed_ms
from ..connection import Connection
from ..daemon import WARM
from ..rows import Measured, goal_row
from ..sandboxes import Act

_FILES, _SIZE = 20, 1 << 20
_DOWNLOAD = 64 << 20
_CONSOLE = 200_000_000
_BOUNDARY = "a-boundary-of-the-benchmark"
_LINE = "0123456789 a line of text as programs print it 0123456789\\n"


def measure(bench: Bench) -> Measured:
    """The three rows."""
    with bench.daemon(WARM).connect() as connection:
        session = connection.create(memory="512m")
        connection.run(session, f"head -c {_DOWNLOAD} /dev/urandom > random")
        connection.run(session, f"yes '{_LINE}' | head -c {_CONSOLE} > text")
        content, kind = upload()
        path = f"/session/{session}"
        acts: dict[str, tuple[int, Act]] = {
            "upload": (
                _FILES * _SIZE,
                partial(connection.send, "POST", f"{path}/upload", content, kind),
            ),
            "download": (_DOWNLOAD, partial(_download, connection, f"{path}/archive?match=random")),
            "console": (_CONSOLE, partial(_console, connection, session)),
        }
        speeds: dict[str, list[float]] = {key: [] for key in acts}
        times: dict[str, list[float]] = {key: [] for key in acts}
        for number in range(bench.amount.repetitions):
            for key, (size, act) in acts.items():
                bench.progress.show(f"bandwidth: {key}, {number + 1}")
                elapsed = timed_ms(act)
                times[key].append(elapsed)
                speeds[key].append(size / elapsed / 1000)
        connection.delete(session)
    rows = [goal_row(key, median(speeds[key]), tuple(times[key])) for key in acts]
    return Measured(rows, sizing={row.text: f"{row.value:.0f} MB/s" for row in rows})


def upload() -> tuple[bytes, str]:
    """The body of an upload of 20 files of 1 MiB, and its type."""
    parts = []
    for number in range(_FILES):
        head = f'Content-Disposition: form-data; name="src"; filename="file-{number}"'
        head = f"--{_BOUNDARY}\r\n{head}\r\nContent-Type: application/octet-stream\r\n\r\n"
        parts.append(head.encode() + bytes([number]) * _SIZE + b"\r\n")
    parts.append(f"--{_BOUNDARY}--\r\n".encode())
    return b"".join(parts), f"multipart/form-data; boundary={_BOUNDARY}"


def _download(connection: Connection, path: str) -> None:
    size = connection.download(path)
    if size < _DOWNLOAD:
        raise RuntimeError(f"the download has {size} bytes; it should have {_DOWNLOAD}")


def _console(connection: Connection, session: str) -> None:
    """Print the text. The client follows, and the daemon keeps head and tail of the output."""
    connection.run(session, "cat text")
