"""Messages between the processes of sandboxd: one JSON object a packet, descriptors alongside.

All sockets are SOCK_SEQPACKET, so a packet is a message. These conversations use this module.

api -> warden (one socketpair, made before the api drops root): the table of requests is `OPS`
in ops.py.

api, warden -> shim (the control socket of one run): the table is `CONTROL_OPS` in control_ops.py.

api <-> shim (the socket of a streamed input, see shim/input_stream.py; packets are no JSON):

    INPUT_DATA and 1 to INPUT_PIECE bytes    data
    INPUT_END                                the end of input
    INPUT_REPORT                             asks for a report
    The shim's messages are reports: {"taken", "ended", "closed"}, the bytes that it has read so
    far, whether the end has come, and whether the program reads no more. It sends one at the
    beginning, one for INPUT_END and INPUT_REPORT each, and one when the program reads no more.

api <-> shim (the socket of a terminal; the terminal ends when either side closes its socket):

    stdin    chars                       typed characters, in base64
    resize   rows, cols                  the size of the window
    The shim's messages are {"out"}, what the terminal shows, in base64, and {"dropped"}, bytes of
    input for which there was no room.

The protocol of the file helper is at the top of file_calls.py.
"""

from __future__ import annotations

import array
import errno
import json
import os
import socket
import time
from collections.abc import Mapping
from typing import Any

from ..errors import SandboxdError

PACKET = 192 * 1024
"""Bytes of one packet at most; below the kernel's default socket buffer of 208 KiB."""

LONGEST = PACKET + 32 * 1024
"""Bytes of the order of a run at most, on a socket with a larger buffer (shim/run_spec.py)."""

INPUT_PIECE = 64 * 1024
INPUT_DATA, INPUT_END, INPUT_REPORT = b"D", b"E", b"R"

MAX_DESCRIPTORS = 8

NUMBER_MAX = 1 << 62
"""Numbers in messages are below it."""

IN_FLIGHT_S = 2.0
"""How long the kernel may take to collect descriptors that programs with the uid of a shim or an
init have sent to themselves and left behind. It limits their number (unix(7), ETOOMANYREFS)."""


_TRUNCATED, _DESCRIPTORS_LOST = int(socket.MSG_TRUNC), int(socket.MSG_CTRUNC)

_buffers: list[memoryview] = []
_JSON = json.JSONEncoder(separators=(",", ":"))
_DECODER = json.JSONDecoder()


class WireError(SandboxdError):
    """The peer sent a packet that is no message; the conversation is over."""


class Starved(WireError):
    """A `message` came without its descriptors, since this process can open no more at the moment.
    The conversation goes on."""

    def __init__(self, message: dict[str, Any]) -> None:
        super().__init__("too many descriptors are open to receive those of a message")
        self.message = message

    @property
    def public(self) -> str:
        """The whole text."""
        return str(self)


def encode(message: dict[str, Any], most: int = PACKET) -> bytes:
    """The packet for `message`. Raises WireError when it has more than `most` bytes."""
    data = _JSON.encode(message).encode()
    if len(data) > most:
        raise WireError(f"message of {len(data)} bytes; at most {most} fit a packet")
    return data


def send(
    sock: socket.socket, message: dict[str, Any], fds: list[int] | None = None, most: int = PACKET
) -> None:
    """Send one message of `most` bytes, with copies of `fds`. Raises WireError or OSError."""
    ancillary = []
    if fds:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
    data, deadline = encode(message, most), time.monotonic() + IN_FLIGHT_S
    while True:
        try:
            sock.sendmsg([data], ancillary)
            return
        except OSError as error:
            if error.errno != errno.ETOOMANYREFS or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def receive(
    sock: socket.socket, most: int = PACKET, descriptors: int = MAX_DESCRIPTORS
) -> tuple[dict[str, Any] | None, list[int]]:
    """The next message and its descriptors (close-on-exec, the caller's to close); None at the end.
    The message has `most` bytes and so many `descriptors` at most.

    Raises WireError for a packet that is not one JSON object, Starved for a message whose
    descriptors this process cannot open, and BlockingIOError when the socket is non-blocking and
    no packet has arrived.
    """
    # Not socket.recv_fds: up to Python 3.13 it drops its flags, and descriptors without
    # close-on-exec would reach the user's programs.
    fds = array.array("i")
    room = socket.CMSG_SPACE(descriptors * fds.itemsize)
    # A new buffer for each message would be mapped, filled with zeros and unmapped.
    buffer = _buffers.pop() if _buffers else memoryview(bytearray(LONGEST + 1))
    try:
        size, ancillary, flags, _ = sock.recvmsg_into(
            [buffer[: most + 1]], room, socket.MSG_CMSG_CLOEXEC
        )
        data = bytes(buffer[:size])
        buffer[:size] = bytes(size)  # a child of this process, of another session, inherits it
    finally:
        _buffers.append(buffer)
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return _parsed(data, list(fds), flags, most)


def receive_plain(sock: socket.socket) -> dict[str, Any] | None:
    """The next message of a peer that sends no descriptors; None at the end of the conversation.

    A packet that is no message ends the conversation too. Raises BlockingIOError as `receive` does.
    """
    try:
        message, fds = receive(sock)
    except BlockingIOError:
        raise
    except (OSError, WireError):
        return None
    close_all(fds)
    return message


def number(message: Mapping[str, Any], key: str, default: int = 0) -> int:
    """The whole number in a field of a message; `default` for anything else, as of a peer that has
    been taken over."""
    value = message.get(key)
    return value if type(value) is int and abs(value) < NUMBER_MAX else default


def text(message: Mapping[str, Any], key: str) -> bytes:
    """The text in a field of a message, as bytes; lone surrogates stand for single bytes."""
    value = str(message.get(key, ""))
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # of another kind of surrogate, which the api refuses
        return value.encode("utf-8", "replace")


def _parsed(
    data: bytes, fds: list[int], flags: int, most: int
) -> tuple[dict[str, Any] | None, list[int]]:
    """The message in a packet. The descriptors of a packet that is no message are closed."""
    try:
        if not data:
            close_all(fds)
            return None, []
        if flags & _TRUNCATED or len(data) > most:
            raise WireError("packet too large")
        message, end = _DECODER.raw_decode(text := data.decode())
        if end != len(text):
            raise WireError("packet has more than one value")
        if not isinstance(message, dict):
            raise WireError("packet is not an object")
        if flags & _DESCRIPTORS_LOST:
            raise Starved(message)
    except (ValueError, RecursionError) as error:
        close_all(fds)
        raise WireError(f"packet is not JSON: {error}") from None
    except WireError:
        close_all(fds)
        raise
    return message, fds


def close_all(fds: list[int]) -> None:
    """Close every descriptor in `fds`."""
    for fd in fds:
        os.close(fd)
