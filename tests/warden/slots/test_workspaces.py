"""The user at a connection, as the warden asks the kernel."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from sandboxd.errors import Invalid
from sandboxd.warden.slots.workspaces import user_of


def listening(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    return listener


def test_client_of_our_socket_is_the_user(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with listening(path) as listener, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        accepted, _ = listener.accept()
        with accepted:
            ids = user_of(accepted.fileno(), [f"unix:{path}"]).ids
    assert (ids.uid, ids.gid) == (os.getuid(), os.getgid())


def test_socket_with_our_name_that_has_connected_to_a_user_proves_nothing(tmp_path: Path) -> None:
    """The unprivileged half can make our path anew in a mount namespace of its own. Then it binds a
    socket to this path, and connects it to any user who listens."""
    path, victim = tmp_path / "api.sock", tmp_path / "victim.sock"
    with listening(victim), socket.socket(socket.AF_UNIX) as client:
        client.bind(str(path))
        client.connect(str(victim))
        with pytest.raises(Invalid, match="no name"):
            user_of(client.fileno(), [f"unix:{path}"])


def test_socket_without_a_connection_proves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with listening(path) as listener, pytest.raises(Invalid, match="needs a connection"):
        user_of(listener.fileno(), [f"unix:{path}"])
