"""The events of a session as the client shows them, while the session lives and at its end."""

from __future__ import annotations

import time

import pytest

from .conftest import Client


def test_events_of_a_session_come_in_order_and_end(client: Client) -> None:
    client("session", "create", "-t", "eventful", "gcc:latest")
    process = client.begin("session", "events", "eventful")
    time.sleep(2)
    client("rm", "eventful")
    out, err = process.communicate(timeout=20)
    assert "session_terminating" in out and "session_terminated" in out, (out, err)
    assert out.index("session_terminating") < out.index("session_terminated")
    assert process.returncode == 0


@pytest.mark.parametrize(("command", "code", "event"), [
    ("sleep 3", 0, "session_success"), ("exit 3", 3, "session_failure"),
])  # fmt: skip
def test_watch_ends_with_the_batch_command(
    client: Client, command: str, code: int, event: str
) -> None:
    client(
        "session", "create", "-t", f"watched-{code}", "--type", "batch", "-c", command, "gcc:latest"
    )
    printed = client("watch", "--max-wait", "15", f"watched-{code}")
    assert event in printed.text and printed.status == code, printed
