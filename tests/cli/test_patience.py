"""A command whose daemon restarts or stays away: it tries again, or names what stays."""

from __future__ import annotations

from typing import Any, cast

import pytest

from sandboxd.cli.connection import patience
from sandboxd.cli.connection.client import Client, ConnectionLost
from sandboxd.cli.connection.patience import patiently
from sandboxd.cli.connection.temporary_session import deleted
from sandboxd.cli.reporter import Reporter
from sandboxd.config.settings import SOCKET
from sandboxd.errors import SandboxdError, Unavailable

GONE = ConnectionLost("the daemon does not answer: [Errno 111] Connection refused")


class StandIn:
    """A client whose calls fail with these errors, one after the other."""

    def __init__(
        self, *errors: SandboxdError, socket: str = SOCKET, comes_back: bool = True
    ) -> None:
        self.socket, self.comes_back = socket, comes_back
        self.errors = list(errors)
        self.calls: list[tuple[Any, ...]] = []
        self.is_up = False

    def answers(self) -> bool:
        return self.is_up

    def call(self, *args: Any) -> str:
        self.calls.append(args)
        if self.errors:
            raise self.errors.pop(0)
        return "done"

    @property
    def client(self) -> Client:
        return cast(Client, self)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "RETRY_S", 0.0)


def put(daemon: StandIn) -> str:
    return patiently(
        daemon.client, Reporter(False, False), "the upload", lambda: daemon.call("PUT")
    )


def test_act_is_repeated_until_the_daemon_is_back(capsys: pytest.CaptureFixture[str]) -> None:
    daemon = StandIn(GONE, GONE, Unavailable("the server ends; send the request again"))
    assert put(daemon) == "done"
    assert len(daemon.calls) == 4
    assert capsys.readouterr().err == f"sandboxd: {GONE}; the upload is tried again for 60 s\n"


def test_daemon_that_stays_away_ends_the_act(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "COMES_BACK_S", 0.0)
    with pytest.raises(ConnectionLost):
        put(StandIn(*[GONE] * 1000))


def test_private_daemon_is_not_waited_for() -> None:
    daemon = StandIn(GONE, comes_back=False)
    with pytest.raises(ConnectionLost):
        put(daemon)
    assert len(daemon.calls) == 1


def test_refusal_of_a_daemon_that_runs_is_not_repeated() -> None:
    daemon = StandIn(Unavailable("no room"))
    daemon.is_up = True
    with pytest.raises(Unavailable, match="no room"):
        put(daemon)
    assert len(daemon.calls) == 1


def test_session_that_stays_is_named_with_the_commands_for_it() -> None:
    with pytest.raises(Unavailable) as error, deleted(StandIn(GONE).client, "the-id"):
        raise GONE
    text = str(error.value)
    assert "the session the-id stays" in text
    assert "sandboxd get the-id . --into DIR --rm;" in text
    assert f"curl --unix-socket {SOCKET} -X DELETE http://sandboxd/session/the-id;" in text


def test_commands_for_a_session_name_the_socket_of_the_user() -> None:
    daemon = StandIn(GONE, socket="/tmp/a b")
    with pytest.raises(Unavailable, match="--rm --socket '/tmp/a b'"), deleted(daemon.client, "id"):
        pass


def test_session_of_a_private_daemon_goes_with_it() -> None:
    daemon = StandIn(GONE, comes_back=False)
    with pytest.raises(ConnectionLost), deleted(daemon.client, "id"):
        pass
