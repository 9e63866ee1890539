"""The client's commands about virtual folders, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ..daemon import Daemon
from .conftest import Client, client_of

pytestmark = pytest.mark.world  # each command takes a second of CPU


@pytest.fixture(scope="module")
def folder(client: Client) -> str:
    """A folder with a file in a directory."""
    assert 'Virtual folder "data" is created' in client("vfolder", "create", "data", "local").text
    (client.folder / "files" / "in der Mitte").mkdir(parents=True)
    (client.folder / "files" / "in der Mitte" / "한글.txt").write_text("text\n")
    printed = client("vfolder", "upload", "-r", "data", "files")
    assert "Done." in printed.text, printed
    return "data"


def listed(client: Client) -> dict[str, str]:
    """Permissions of the folders, by name, as `vfolder list` tells them."""
    printed = client("--output", "json", "vfolder", "list")
    return {each["name"]: each["permission"] for each in json.loads(printed.out)["items"]}


def test_folder_is_made_listed_renamed_and_deleted(client: Client) -> None:
    client("vfolder", "create", "-p", "ro", "first", "local")
    assert listed(client)["first"] == "ro"
    assert "already exists" in client("vfolder", "create", "first", "local").text
    assert "Renamed" in client("vfolder", "rename", "first", "second").text
    assert "second" in listed(client) and "first" not in listed(client)
    assert "Updated" in client("vfolder", "update-options", "-p", "rw", "second").text
    assert listed(client)["second"] == "rw"
    assert 'Virtual folder "second"' in client("vfolder", "info", "second").out
    assert "Deleted." in client("vfolder", "delete", "second").text
    assert "second" not in listed(client)
    printed = client("vfolder", "info", "second")
    assert printed.status == 1 and "No such virtual folder." in printed.text


def test_directory_goes_up_and_its_files_come_back(
    client: Client, folder: str, tmp_path: Path
) -> None:
    assert "한글.txt" in client("vfolder", "ls", folder, "files/in der Mitte").out
    (tmp_path / "files" / "in der Mitte").mkdir(parents=True)
    printed = client("vfolder", "download", folder, "files/in der Mitte/한글.txt", cwd=tmp_path)
    assert "Done." in printed.text, printed
    assert (tmp_path / "files" / "in der Mitte" / "한글.txt").read_text() == "text\n"


def test_large_file_goes_up_in_pieces_and_comes_back_whole(
    client: Client, folder: str, tmp_path: Path
) -> None:
    content = bytes(range(256)) * (40 << 12)  # 40 MiB: three pieces of the client's
    (client.folder / "large.bin").write_bytes(content)
    assert "Done." in client("vfolder", "upload", folder, "large.bin").text
    assert "Done." in client("vfolder", "download", folder, "large.bin", cwd=tmp_path).text
    assert (tmp_path / "large.bin").read_bytes() == content


def test_files_are_renamed_moved_and_removed(client: Client, folder: str) -> None:
    (client.folder / "a.txt").write_text("a")
    assert "Done." in client("vfolder", "upload", folder, "a.txt").text
    assert client("vfolder", "mkdir", folder, "d").status == 0
    printed = client("vfolder", "mkdir", folder, "d")
    assert printed.status == 1 and "'d' exists" in printed.text
    assert client("vfolder", "mkdir", "-e", folder, "d").status == 0
    assert client("vfolder", "mkdir", "-p", folder, "deep/er").status == 0
    assert "Renamed." in client("vfolder", "rename-file", folder, "a.txt", "b c.txt").text
    assert "Moved." in client("vfolder", "mv", folder, "b c.txt", "d/b c.txt").text
    assert "b c.txt" not in client("vfolder", "ls", folder).out
    assert "b c.txt" in client("vfolder", "ls", folder, "d").out
    printed = client("vfolder", "rm", folder, "d", input="y\n")
    assert printed.status == 1 and "ask for recursive removal" in printed.text
    assert "Done." in client("vfolder", "rm", "-r", folder, "d", input="y\n").text
    assert "b c.txt" not in client("vfolder", "ls", folder, "d").out
    printed = client("vfolder", "ls", folder, "../../etc")
    assert "passwd" not in printed.text


@pytest.mark.parametrize("mount", ["data", "data=other", "data:/home/work/other"])
def test_folder_is_mounted_where_it_was_asked_for(client: Client, folder: str, mount: str) -> None:
    place = "other" if "other" in mount else "data"
    try:
        printed = client("session", "create", "-t", "mounted", "-v", mount, "gcc:latest")
        assert "is created and ready" in printed.text, printed
        (client.folder / "nothing").write_text("")
        printed = client(
            "run", "-q", "-t", "mounted", "--build", "true",
            "--exec", f"cat '{place}/files/in der Mitte/한글.txt'", "gcc:latest", "nothing",
        )  # fmt: skip
        assert "text\n" in printed.out, printed
        printed = client("vfolder", "delete", folder)
        assert printed.status == 1 and "mounted" in printed.text
    finally:
        client("rm", "mounted")


def test_two_owners_use_one_name_and_neither_sees_the_other(
    client: Client, client_python: str, daemon: Daemon, folder: str, tmp_path: Path
) -> None:
    other = client_of(client_python, daemon, tmp_path)
    assert listed(other) == {}
    for command in (("info", folder), ("ls", folder), ("download", folder, "large.bin"),
                    ("rename", folder, "mine"), ("delete", folder)):  # fmt: skip
        assert "No such virtual folder." in other("vfolder", *command).text, command
    assert "No such virtual folder." in other("session", "create", "-v", folder, "gcc:latest").text
    assert "is created" in other("vfolder", "create", folder, "local").text
    assert "Deleted." in other("vfolder", "delete", folder).text
    assert folder in listed(client)
