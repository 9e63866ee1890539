"""How the halves of sandboxd speak: one JSON object a packet, descriptors alongside.

Two conversations use it. All sockets are SOCK_SEQPACKET, so a packet is a message.

api -> warden (one socketpair, made before the api drops root). Each request has an `id`
that its answer repeats; this is the whole privileged surface:

    op       arguments                               answer   descriptors back
    ready    -                                       -        -
    ping     -                                       vitals   -
    sweep    -                                       -        the report, a file of JSON
    lease    session, size, inodes, mounts           slot     -
    adopt    slot, session, mounts, runs             -        -
    start    slot, session, run, shell, steps,       -        control, console, journal, cursor
             environ, terminal, runtime
             (one descriptor may come with it: exec's standard input, or, with terminal true,
             the socket of who sits at it)
    follow   slot, session, run, begun               there    the same, if it is there
    forget   slot, session, runs                     -        -
    files    slot, session                           -        helper
    release  slot, session                           -        -
    folder_make    folder, size, inodes              -        -
    folder_files   folder                            -        helper
    folder_remove  folder                            -        -

    session and folder are UUIDs, run a number that the session has not used before, a step
    {"name", "command", "limits"} with the fields of model.Step and model.Limits, mounts a list of
    {"folder", "name", "read_only"}, the fields of model.Attachment, runs a list of numbers.
    `adopt` takes up a slot of an earlier daemon, with those of `runs` that go on; `follow` gives
    what `start` gave, of a run that an earlier daemon was asked to start, and tells if it never
    began; `forget` removes the directories of runs as soon as they are over.
    vitals are the fields of warden/vitals.py, the report is that of warden/leaks/sweep.py.
    An answer is {"id", "ok": true, ...} or {"id", "ok": false, "error", "kind", "stage",
    "errno"}; kind is "stage" (StageError), "unavailable" or "invalid", whose texts are for clients
    too, or "fault", whose text is for the log.

    Once more the warden speaks unasked: {"config": ...}, when it has read the configuration again
    (SIGHUP): the values, as dataclasses.asdict has them, since the api may not open the file.

api -> shim (the control socket of one run):

    watch    console, journal, waiting   answered when the run has gone beyond what they say;
                                         one at a time, a newer one replaces it
    input    text, eof                   for the step's standard input
    decline                              the client did not answer waiting-input: its clock runs on
    signal   name                        for the process group of the step
    kill     -                           end the run now, with everything that it has started
    The shim's only message is the answer to watch: {"console", "journal", "waiting", "inputs"},
    where console and journal are positions (spool.Position order, count of lines), and inputs
    says how many input requests `waiting` takes into account.

api <-> shim (the socket of a terminal; its end at either side is the terminal's end):

    stdin    chars                       what was typed, in base64
    resize   rows, cols                  the size of the window
    The shim's messages are {"out"}, what the terminal shows, in base64, and {"dropped"}, bytes of
    input that there was no room for.

The file helper's protocol is at the top of filewire.py.
"""

from __future__ import annotations

import array
import errno
import json
import os
import socket
import time
from typing import Any

from .errors import SandboxdError

PACKET = 192 * 1024
"""Bytes of one packet at most; below the kernel's default socket buffer of 208 KiB."""

MAX_DESCRIPTORS = 8

IN_FLIGHT_S = 2.0
"""How long the kernel may take to collect descriptors that programs of our uid, a shim's or an
init's, have sent to themselves and left behind: they are bounded (unix(7), ETOOMANYREFS)."""


class WireError(SandboxdError):
    """The peer sent something that is no message; the conversation is over."""


class Starved(WireError):
    """A `message` came without its descriptors: this process can have no more at the moment. The
    conversation goes on."""

    def __init__(self, message: dict[str, Any]) -> None:
        super().__init__("no descriptor is left for what came with a message")
        self.message = message

    @property
    def public(self) -> str:
        """The whole text."""
        return str(self)


def encode(message: dict[str, Any]) -> bytes:
    """The packet for `message`. Raises WireError when it is too large."""
    data = json.dumps(message, separators=(",", ":")).encode()
    if len(data) > PACKET:
        raise WireError(f"message of {len(data)} bytes; at most {PACKET} fit a packet")
    return data


def send(sock: socket.socket, message: dict[str, Any], fds: list[int] | None = None) -> None:
    """Send one message, with copies of `fds`. Raises WireError or OSError."""
    ancillary = []
    if fds:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
    data, deadline = encode(message), time.monotonic() + IN_FLIGHT_S
    while True:
        try:
            sock.sendmsg([data], ancillary)
            return
        except OSError as error:
            if error.errno != errno.ETOOMANYREFS or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def receive(sock: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """The next message and its descriptors (close-on-exec, ours to close); None at the end.

    Raises WireError for anything that is not one JSON object in one packet, Starved for one
    whose descriptors have no room here; BlockingIOError when the socket is non-blocking and
    nothing is there.
    """
    # Not socket.recv_fds: up to Python 3.13 it drops its flags, and descriptors without
    # close-on-exec would reach the payload.
    fds = array.array("i")
    room = socket.CMSG_SPACE(MAX_DESCRIPTORS * fds.itemsize)
    data, ancillary, flags, _ = sock.recvmsg(PACKET + 1, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return _parsed(data, list(fds), flags)


def receive_plain(sock: socket.socket) -> dict[str, Any] | None:
    """The next message of a peer that has no descriptors to give; None at its end, whichever way
    it came: a peer that says nonsense is as good as gone. Raises BlockingIOError as `receive`.
    """
    try:
        message, fds = receive(sock)
    except BlockingIOError:
        raise
    except (OSError, WireError):
        return None
    close_all(fds)
    return message


def _parsed(data: bytes, fds: list[int], flags: int) -> tuple[dict[str, Any] | None, list[int]]:
    """The message in a packet; its descriptors are closed when it is none."""
    try:
        if not data:
            return None, fds
        if flags & socket.MSG_TRUNC or len(data) > PACKET:
            raise WireError("packet too large")
        message = json.loads(data)
        if not isinstance(message, dict):
            raise WireError("packet is not an object")
        if flags & socket.MSG_CTRUNC:
            raise Starved(message)
    except (ValueError, RecursionError) as error:
        close_all(fds)
        raise WireError(f"packet is not JSON: {error}") from None
    except WireError:
        close_all(fds)
        raise
    return message, fds


def close_all(fds: list[int]) -> None:
    """Close every descriptor of a message that nobody wants."""
    for fd in fds:
        os.close(fd)
