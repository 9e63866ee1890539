"""The events of a session as the client shows them, while the session lives and at its end."""

from __future__ import annotations

import time

import pytest

from ...waiting import PATIENCE_S
from .conftest import Client


def test_events_of_a_session_come_in_order_and_end(client: Client) -> None:
    client("session", "create", "-t", "eventful", "gcc:latest")
    process = client.begin("session", "events", "eventful")
    assert process.stdout
    first = process.stdout.readline()  # the client listens
    client("rm", "eventful")
    out, err = process.communicate(timeout=PATIENCE_S)
    out = first + out
    assert "session_terminating" in out and "session_terminated" in out, (out, err)
    assert out.index("session_terminating") < out.index("session_terminated")
    assert process.returncode == 0


@pytest.mark.parametrize(("code", "event"), [(0, "session_success"), (3, "session_failure")])
def test_watch_ends_with_the_batch_command(client: Client, code: int, event: str) -> None:
    """The command lasts longer than the client needs on this machine to find the session."""
    begun = time.monotonic()
    client("ps")
    seconds = 3 * (time.monotonic() - begun) + 2
    name, command = f"watched-{code}", f"sleep {seconds:.1f}; exit {code}"
    client("session", "create", "-t", name, "--type", "batch", "-c", command, "gcc:latest")
    printed = client("watch", "--max-wait", "60", name)
    assert event in printed.text and printed.status == code, printed
