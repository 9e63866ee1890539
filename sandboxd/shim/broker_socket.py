"""The listening socket of a run for the broker, the only way out of the run.

The shim makes the socket in the network namespace of the run, before any program exists, so no
program can have the port. A broker outside accepts on it: a socket belongs to the namespace in
which it was made (network_namespaces(7)). Nothing else in the namespace changes.

    warden -> shim   {"op": "broker"} + a socket, on the control socket: the link to a broker
                     {"op": "no-broker"}   no broker can be started
    shim -> broker   {"listener"} + the listening socket
    broker -> shim   {"refused": text}     a connection that the profile of the session forbids

The shim keeps the listening socket, also between two runs of its session. So a broker that follows
another one gets the same socket; connections that come meanwhile wait in it. Where no broker can be
started, the shim turns them away, and the console of the run says so once.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
from collections.abc import Callable

from ..jail.stage import stage
from ..wire import messages

PORT = 3128
"""The usual port of a proxy, on the loopback of the run."""

BACKLOG = 512
REFUSALS_MAX = 32
"""Refusals of a run that its console names."""

TEXT_MAX = 300
HEAD_MAX = 65536

TURNED_AWAY_MAX = 1000
"""Connections that are turned away in a run. Further ones wait: the time of the shim is not the
time of the run."""

NO_BROKER = "the server cannot start its broker, and its log says why"
_BODY = f"sandboxd: {NO_BROKER}\n"
_ANSWER = (
    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n"
    f"Content-Length: {len(_BODY)}\r\nX-Sandboxd-Refused: no-broker\r\n"
    f"Connection: close\r\n\r\n{_BODY}"
).encode("ascii")

_URL = f"http://127.0.0.1:{PORT}"
_JAVA = (
    f"-Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort={PORT} "
    f"-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort={PORT}"
)
"""The JVM asks no proxy for the loopback, without a property. Debian's script of Gradle hands this
to a shell, which would take a | in it for its own."""

VARIABLES = {
    "http_proxy": _URL,
    "https_proxy": _URL,
    "HTTP_PROXY": _URL,
    "HTTPS_PROXY": _URL,
    "no_proxy": "localhost,127.0.0.1,::1",
    "NO_PROXY": "localhost,127.0.0.1,::1",
    "MAVEN_OPTS": _JAVA,
    "MAVEN_ARGS": "-Daether.connector.http.useSystemProperties=true",
    "GRADLE_OPTS": _JAVA,
}
"""The variables by which most programs find a proxy. The JVM reads none of them: Maven and Gradle
hand its own settings on."""


class BrokerSocket:
    """The listening socket, and the link to the broker of this moment.

    refusals  those of the run, in their order
    """

    def __init__(self) -> None:
        with stage("network"):
            self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            self._listener.bind(("127.0.0.1", PORT))
            self._listener.listen(BACKLOG)
        self._link: socket.socket | None = None
        self._selector: selectors.BaseSelector | None = None
        self._report: Callable[[str], None] = lambda _: None
        self._turns_away = False
        self._turned_away = 0
        self.refusals: dict[str, None] = {}

    def fileno(self) -> int:
        """The descriptor of the listening socket."""
        return self._listener.fileno()

    def begin(self, selector: selectors.BaseSelector, report: Callable[[str], None]) -> None:
        """A run begins: each refusal goes to `report` once."""
        self._selector, self._report = selector, report
        self.refusals, self._turned_away = {}, 0
        if self._turns_away:
            selector.register(self._listener, selectors.EVENT_READ, self._turn_away)

    def attach(self, fd: int) -> None:
        """Give the listening socket to the broker at the other end of the socket `fd`."""
        self._detach()
        self._turns_away = False
        link = socket.socket(fileno=fd)
        link.setblocking(False)
        try:
            messages.send(link, {"listener": True}, [self._listener.fileno()])
        except OSError:  # the broker has ended; the warden sends another link
            link.close()
            return
        self._link = link
        if self._selector:
            self._selector.register(link, selectors.EVENT_READ, self._receive)

    def turn_away(self) -> None:
        """Turn connections away until there is a link."""
        self._detach()
        self._turns_away = True
        self._listener.setblocking(False)
        if self._selector:
            self._selector.register(self._listener, selectors.EVENT_READ, self._turn_away)

    def _turn_away(self, _: int) -> None:
        try:
            sock, _address = self._listener.accept()
        except OSError:  # it has gone, or descriptors are short
            return
        sock.setblocking(False)
        with sock, contextlib.suppress(OSError):
            with contextlib.suppress(BlockingIOError):
                sock.recv(HEAD_MAX)  # unread bytes would reset the connection, and take the answer
            sock.send(_ANSWER)
            sock.shutdown(socket.SHUT_WR)
        self._refused(NO_BROKER)
        self._turned_away += 1
        if self._turned_away == TURNED_AWAY_MAX and self._selector:
            self._selector.unregister(self._listener)

    def end(self) -> None:
        """The run is over. Connections of a following run wait for a link of its own: the broker
        would cut those on this link, and take them for this run's."""
        self._detach()
        self._selector = None

    def drain(self) -> None:
        """Take in the refusals that have come: those of a step come before its end."""
        while self._link and self._receive(0):
            pass

    def _receive(self, _: int) -> bool:
        """Take in a message of the broker; whether there was one."""
        assert self._link
        try:
            message = messages.receive_plain(self._link)
        except BlockingIOError:
            return False
        if message is None:
            self._detach()
            return False
        self._refused(str(message.get("refused", ""))[:TEXT_MAX])
        return True

    def _refused(self, text: str) -> None:
        """Report a refusal, once."""
        if text.isprintable() and text not in self.refusals and len(self.refusals) < REFUSALS_MAX:
            self.refusals[text] = None
            self._report(text)

    def _detach(self) -> None:
        """Close the link, if there is one, and watch the listening socket no more."""
        if self._selector:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(self._listener)
        if self._link is None:
            return
        if self._selector:
            with contextlib.suppress(KeyError, ValueError):  # the selector of a run that is over
                self._selector.unregister(self._link)
        self._link.close()
        self._link = None
