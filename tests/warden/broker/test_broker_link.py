"""The links of runs to the broker, with a broker and a shim that the test plays."""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from sandboxd.config.network_profiles import NetworkConfig, ProfileConfig
from sandboxd.config.settings import Config
from sandboxd.errors import StageError
from sandboxd.model import NetworkGrant
from sandboxd.warden.broker.broker_link import RESTART_S, BrokerLink
from sandboxd.warden.runs import control_socket, run_directory
from sandboxd.warden.runs.worker import Worker
from sandboxd.warden.shared_resources import Resources
from sandboxd.warden.slots.slots import Slot
from sandboxd.wire import messages

NETWORK = NetworkConfig({"packages": ProfileConfig(("index.example:443",))})


Pair = tuple[socket.socket, socket.socket]


class FakeSlot:
    """A slot with one run, whose shim listens on the control socket."""

    number, session = 0, "s"
    network = NetworkGrant("o", "packages")

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.emptied_runs: list[str] = []

    def run_path(self, _: int) -> str:
        return str(self._folder)


class FakeResources:
    """The configuration."""

    config = Config(network=NETWORK)


@pytest.fixture
def slot(tmp_path: Path) -> Iterator[Slot]:
    with contextlib.ExitStack() as stack:
        slot = cast(Slot, FakeSlot(tmp_path / "run"))
        run_directory.make(slot, 1, stack)
        yield slot


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    yield clock


@pytest.fixture
def ends() -> Iterator[Pair]:
    """The socket between broker and warden: the end of each."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs


def linked(slot: Slot, warden: socket.socket) -> BrokerLink:
    resources, workers = cast(Resources, FakeResources()), [Worker(1, slot, 1)]
    link = BrokerLink(selectors.DefaultSelector(), resources, lambda: workers)
    link._process.pid, link._process._sock = 1, warden
    link._spec = cast(Any, FakeSpec())
    link._ping_at = link._heard_at = 1e9
    return link


class FakeSpec:
    """The values of the broker of the test."""

    network = NETWORK


def arrived(sock: socket.socket) -> list[dict[str, Any]]:
    taken = []
    with contextlib.suppress(BlockingIOError):
        while True:
            message, fds = messages.receive(sock)
            messages.close_all(fds)
            assert message
            taken.append(message)
    return taken


LINK = {"owner": "o", "profile": "packages", "hosts": [], "session": "s", "run": 1}


def test_link_that_finds_the_socket_of_the_broker_full_is_made_again(
    slot: Slot, ends: Pair, now: list[float]
) -> None:
    broker, warden = ends
    link = linked(slot, warden)
    with contextlib.suppress(BlockingIOError):
        while True:
            messages.send(warden, {"ping": True})
    link.link(slot, 1)
    assert all(message == {"ping": True} for message in arrived(broker))
    link.maintain()
    assert arrived(broker) == []
    assert link.due_in() == RESTART_S
    now[0] += RESTART_S
    link.maintain()
    assert arrived(broker) == [{"link": LINK}]
    now[0] += RESTART_S
    link.maintain()
    assert arrived(broker) == []


def test_link_for_which_no_descriptor_is_free_is_made_again_and_ends_no_warden(
    slot: Slot, ends: Pair, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> Pair:
        raise OSError(errno.EMFILE, "Too many open files")

    broker, warden = ends
    link = linked(slot, warden)
    with monkeypatch.context() as starved:
        starved.setattr(socket, "socketpair", refused)
        link.link(slot, 1)
    assert arrived(broker) == []
    now[0] += RESTART_S
    link.maintain()
    assert arrived(broker) == [{"link": LINK}]


def test_link_that_the_broker_could_not_take_is_made_again_and_that_of_an_ended_run_is_not(
    slot: Slot, ends: Pair, now: list[float]
) -> None:
    broker, warden = ends
    link = linked(slot, warden)
    for run, links in ((1, [{"link": LINK}]), (2, [])):
        link._hear({"lost": {"session": "s", "run": run}})
        now[0] += RESTART_S
        link.maintain()
        assert arrived(broker) == links


@pytest.fixture
def shim(slot: Slot) -> Iterator[socket.socket]:
    """The control socket of the run, whose requests the test takes."""
    with control_socket.listen(slot.run_path(1)) as listener:
        listener.setblocking(False)
        yield listener


def requests(shim: socket.socket) -> list[str]:
    """The requests that the shim has got since the last look."""
    taken = []
    with contextlib.suppress(BlockingIOError):
        while True:
            sock, _ = shim.accept()
            with sock:
                message, fds = messages.receive(sock)
            messages.close_all(fds)
            assert message
            taken.append(message["op"])
    return taken


@pytest.mark.parametrize("answers", [True, False])
def test_runs_know_of_a_broker_that_has_ended_without_an_answer_and_of_no_other(
    slot: Slot, ends: Pair, shim: socket.socket, answers: bool
) -> None:
    link = linked(slot, ends[1])
    link._answers = False
    if answers:
        link._hear({"counts": {}})
    link._process._sock = None
    link._forget()
    assert requests(shim) == ([] if answers else ["no-broker"])
    link.link(slot, 1)
    assert requests(shim) == ([] if answers else ["no-broker"]), "a run that begins now"


def test_runs_have_links_again_when_a_broker_answers_and_not_when_it_starts(
    slot: Slot, ends: Pair, shim: socket.socket
) -> None:
    link = linked(slot, ends[1])
    link._is_missing, link._answers = True, False
    link.link(slot, 1)
    assert requests(shim) == ["no-broker"]
    link._hear({"counts": {}})
    assert requests(shim) == ["broker"]
    assert arrived(ends[0]) == [{"link": LINK}]


def test_runs_know_of_a_broker_for_which_there_is_no_cgroup(
    slot: Slot, ends: Pair, shim: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make_spec(_: BrokerLink) -> None:
        raise StageError("cgroup broker", "no controller memory")

    monkeypatch.setattr(BrokerLink, "_make_spec", make_spec)
    link = linked(slot, ends[1])
    link._process._sock, link._spec = None, None
    for known in (["no-broker"], []):
        link._start_at = 0
        link.maintain()
        assert requests(shim) == known, "once"
