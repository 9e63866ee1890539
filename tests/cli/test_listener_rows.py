"""The rows of doctor on the listeners say who reaches them, and warn where everybody is root."""

from __future__ import annotations

import grp
from typing import Any

import pytest

from sandboxd.cli import listener_rows
from sandboxd.config import toml_file
from sandboxd.model import Guarantee

GROUP = grp.getgrnam("daemon").gr_name


def rows(**settings: Any) -> dict[str, Guarantee]:
    return {row.name: row for row in listener_rows.rows(toml_file.load(None, **settings))}


def test_default_socket_is_open_to_root_and_root_is_the_admin() -> None:
    table = rows(listen=["unix:/nonexistent/api.sock"])
    socket, admins = table["unix:/nonexistent/api.sock"], table["admins"]
    assert socket.held and socket.detail.startswith("open to root; each user owns its sessions")
    assert admins.held and admins.detail == "root, and keypairs made with --admin"


def test_network_without_keys_does_not_hold_and_has_a_remedy() -> None:
    row = rows(listen=["127.0.0.1:8080"], auth="none")["127.0.0.1:8080"]
    assert not row.held and not row.required
    assert "acts as root" in row.detail and "auth" in row.remedy
    assert rows(listen=["127.0.0.1:8080"])["127.0.0.1:8080"].held


@pytest.mark.parametrize(
    ("options", "detail"),
    [
        (f"group={GROUP}", f"open to root and the group {GROUP}"),
        ("auth=keypair", "requests are signed"),
        (f"auth=keypair&group={GROUP}", "requests are signed"),
    ],
)
def test_options_of_a_socket_are_in_its_row(options: str, detail: str) -> None:
    row = rows(listen=[f"unix:/nonexistent/s?{options}"])["unix:/nonexistent/s"]
    assert row.held and detail in row.detail


def test_groups_that_the_host_does_not_have_do_not_hold() -> None:
    table = rows(listen=["unix:/nonexistent/s?group=no-such-one"], admin_groups=["no-such-two"])
    assert not table["unix:/nonexistent/s"].held and not table["admins"].held
    assert "no-such-one" in table["unix:/nonexistent/s"].detail
    assert "no-such-two" in table["admins"].detail
    assert GROUP in rows(admin_groups=[GROUP, "7"])["admins"].detail
