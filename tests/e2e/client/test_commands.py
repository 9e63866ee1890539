"""The client's commands about sessions, as a user types them; every request is signed."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path

import pytest

from ..daemon import Daemon
from .conftest import Client, client_of

pytestmark = pytest.mark.world  # each command takes a second of CPU


@pytest.fixture(scope="module")
def session(client: Client) -> str:
    """The UUID of the session "tools"."""
    printed = client("session", "create", "-t", "tools", "--tag", "of-tools", "gcc:latest")
    match = re.search(r"Session ID (\S+) is created and ready", printed.text)
    assert match, printed
    return str(uuid.UUID(match[1]))


def test_config_tells_versions_and_key(client: Client) -> None:
    printed = client("config")
    assert "Server version: sandboxd" in printed.out
    assert "Negotiated API version: (7, '20230615')" in printed.out
    assert client.environ["BACKEND_ACCESS_KEY"] in printed.out


def test_create_again_finds_the_session(client: Client, session: str) -> None:
    printed = client("session", "create", "-t", "tools", "gcc:latest")
    assert f"Session ID {session} is already running and ready." in printed.text


def test_create_without_reuse_is_refused(client: Client, session: str) -> None:
    printed = client("session", "create", "-t", "tools", "--no-reuse", "gcc:latest")
    assert printed.status == 1 and "already exists" in printed.err


def test_create_of_an_unknown_image_says_so(client: Client) -> None:
    printed = client("session", "create", "nosuchlanguage:85")
    assert printed.status == 1 and "No such environment image." in printed.err


def test_files_go_up_are_listed_and_come_back(client: Client, session: str, tmp_path: Path) -> None:
    (client.folder / "sub dir").mkdir()
    (client.folder / "sub dir" / "한글 a.txt").write_text("text\n")
    (client.folder / "b.bin").write_bytes(bytes(range(256)) * 4096)
    printed = client("session", "upload", "tools", "sub dir/한글 a.txt", "b.bin")
    assert "Uploaded." in printed.text
    listed = client("session", "ls", "tools")
    assert re.search(r"b\.bin +1\.0 MiB .* -rw", listed.out), listed
    assert "한글 a.txt" in client("session", "ls", session, "sub dir").out
    printed = client("session", "download", "tools", "sub dir/한글 a.txt", "b.bin",
                     "--dest", str(tmp_path))  # fmt: skip
    assert "Downloaded to" in printed.text
    assert (tmp_path / "한글 a.txt").read_text() == "text\n"
    assert (tmp_path / "b.bin").read_bytes() == bytes(range(256)) * 4096


def test_what_does_not_exist_is_reported(client: Client, session: str) -> None:
    printed = client("session", "ls", "tools", "nowhere")
    assert printed.status == 1 and "404" in printed.err
    printed = client("session", "download", "tools", "nowhere")
    assert printed.status == 1 and "404" in printed.err
    printed = client("session", "logs", "nobody")
    assert printed.status == 1 and "No such session." in printed.err


def test_ps_and_session_list_show_the_session_in_its_columns(
    client: Client, session: str, version: str
) -> None:
    for command in (("ps",), ("session", "list")):
        printed = client(*command, "--detail")
        header, _, *rows = printed.out.splitlines()
        row = next(line for line in rows if session in line)
        for title, value in (
            ("Name", "tools"), ("Session ID", session), ("Main Kernel ID", session),
            ("Image", "gcc:latest"), ("Type", "interactive"), ("Status", "RUNNING"),
            ("Result", "UNDEFINED"), ("Tag", "of-tools"), ("Occupying Slots", "cpu:"),
        ):  # fmt: skip
            if title == "Main Kernel ID" and version == "26.9.6":
                assert title not in header
                continue
            at = header.index(title)
            assert row[at:].startswith(value), (title, printed.out)


def test_every_field_that_the_client_knows_can_be_shown(client: Client, session: str) -> None:
    fields = (
        "id main_kernel_id tag name type image registry cluster_template cluster_mode cluster_size "
        "domain_name group_name group_id agent_ids user_email user_id access_key status "
        "status_info status_data status_changed created_at terminated_at starts_at scheduled_at "
        "startup_command result resource_opts scaling_group service_ports mounts occupying_slots "
        "abusing_reports idle_checks"
    )
    printed = client("ps", "--format", ",".join(fields.split()))
    assert printed.status == 0 and session in printed.out, printed


def test_an_order_is_kept(client: Client, session: str) -> None:
    client("session", "create", "-t", "atools", "gcc:latest")
    names = client("ps", "--name-only", "--plain", "--order", "name").out.split()
    assert names == sorted(names) and {"atools", "tools"} <= set(names)
    client("rm", "atools")


def test_session_info_tells_everything(client: Client, session: str) -> None:
    printed = client("session", "info", session)
    for text in ("tools", session, "gcc:latest", "of-tools", "RUNNING", "Main Kernel ID"):
        assert text in printed.out, printed
    as_json = client("--output", "json", "session", "info", session)
    (item,) = json.loads(as_json.out)["items"]
    assert item["containers"][0]["kernel_id"] == session and item["dependencies"] == []
    printed = client("session", "info", str(uuid.uuid4()))
    assert printed.status == 1 and "There is no such compute session." in printed.text


def test_status_history_counts_from_the_beginning(client: Client, session: str) -> None:
    printed = client("session", "status-history", "tools")
    assert re.search(r"'preparing'[,:] '20", printed.text), printed
    assert "Actual Resource Allocation Time" in printed.text


def test_logs_show_the_last_run(client: Client, session: str) -> None:
    printed = client("session", "logs", "tools")
    assert "End of logs." in printed.text


def test_restart_keeps_the_files(client: Client, session: str) -> None:
    (client.folder / "kept.txt").write_text("kept")
    client("session", "upload", "tools", "kept.txt")
    printed = client("session", "restart", "tools")
    assert "Done." in printed.text
    assert "kept.txt" in client("session", "ls", "tools").out


def test_commit_is_reported_as_missing(client: Client, session: str) -> None:
    printed = client("session", "commit", "tools")
    assert printed.status == 1 and "This API query is not implemented." in printed.err


def test_renamed_session_goes_by_the_new_name_only(client: Client, session: str) -> None:
    client("session", "create", "-t", "before", "gcc:latest")
    assert "renamed to after" in client("session", "rename", "before", "after").text
    assert client("session", "ls", "after").status == 0
    assert client("session", "ls", "before").status == 1
    printed = client("session", "rename", "after", "tools")
    assert printed.status == 1 and "already exists" in printed.err
    printed = client("session", "rename", "after", "x")
    assert printed.status == 1 and "Missing or invalid API parameters." in printed.err
    printed = client("rm", "--stats", "after")
    assert "Done." in printed.text and "cpu_used_msec" in printed.out
    assert client("session", "ls", "after").status == 1


def test_a_session_that_is_over_is_among_the_dead(client: Client) -> None:
    client("session", "create", "-t", "mortal", "gcc:latest")
    client("rm", "mortal")
    assert "mortal" not in client("ps").out
    printed = client("ps", "--dead", "--format", "name,status,status_info,terminated_at")
    assert re.search(r"mortal +TERMINATED +user-requested +20", printed.out), printed


def test_other_users_see_and_reach_nothing_and_admins_everything(
    client: Client, client_python: str, daemon: Daemon, session: str, tmp_path: Path
) -> None:
    other = client_of(client_python, daemon, tmp_path)
    assert session not in other("ps", "-a").out
    assert "There is no such" in other("session", "info", session).text
    for command in (("rm", session), ("session", "restart", "tools"), ("session", "logs", "tools")):
        printed = other(*command)
        assert printed.status == 1 and "No such session." in printed.err
    admin = client_of(client_python, daemon, tmp_path, "--admin")
    printed = admin("ps", "--format", "name,access_key,id")
    assert session in printed.out and client.environ["BACKEND_ACCESS_KEY"] in printed.out
    printed = other("ps", "--access-key", client.environ["BACKEND_ACCESS_KEY"])
    assert session not in printed.out and "only admins" in printed.text
    printed = admin("session", "restart", "-o", client.environ["BACKEND_ACCESS_KEY"], "tools")
    assert "Done." in printed.text


def test_a_wrong_secret_is_refused(client: Client) -> None:
    wrong = Client(client.python, client.folder, client.environ | {"BACKEND_SECRET_KEY": "x" * 40})
    printed = wrong("session", "create", "gcc:latest")
    assert printed.status == 1 and "Signature mismatch" in printed.err


@pytest.mark.parametrize(
    "command", [("ssh",), ("scp", "-r", "here", "work@localhost:there"), ("app", "sshd")]
)
def test_ssh_and_scp_are_refused_in_words(client: Client, command: tuple[str, ...]) -> None:
    name = "no-ssh-here"
    client("session", "create", "-t", name, "gcc:latest")
    try:
        printed = client(command[0], name, *command[1:])
        assert "offers no ssh and no scp" in " ".join(printed.text.split()), printed
        assert "backend.ai session upload" in " ".join(printed.text.split())
    finally:
        client("rm", name)
