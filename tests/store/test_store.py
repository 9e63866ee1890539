"""The tables of sessions and runs: after a restart, with names, with run numbers, with damage."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from sandboxd.errors import ConfigError
from sandboxd.model import Attachment
from sandboxd.store import runs, sessions
from sandboxd.store.database import Database, Unwritable
from sandboxd.store.migrations import MIGRATIONS
from sandboxd.store.runs import RunRow
from sandboxd.store.sessions import LOG_MAX, SessionRow

ROW = SessionRow(
    id="11111111-1111-4111-8111-111111111111",
    name="first",
    owner="default",
    image="gcc:latest",
    runtime="c",
    created_at=1.5,
    limits={"memory": 1 << 28, "cpus": 0.5},
    environ={"WORD": "\udcff", "한": "글"},
)
RUN = RunRow(ROW.id, 0, "r", "{}", None, "boot")


def test_session_row_comes_back_unchanged_after_a_restart(path: str) -> None:
    first = Database(path)
    sessions.add(first, ROW)
    mounts = (Attachment("22222222-2222-4222-8222-222222222222", "data", True),)
    row = sessions.move(first, ROW, "RUNNING", 2.5, slot=7, usage={"runs": 1}, mounts=mounts)
    first.close()
    second = Database(path)
    assert row == replace(
        ROW, slot=7, status="RUNNING", usage={"runs": 1}, history={"RUNNING": 2.5}, mounts=mounts
    )
    assert sessions.all_rows(second) == [row]
    second.close()


def test_row_of_an_ended_session_stays_among_the_newest_of_its_owner(database: Database) -> None:
    for number in range(4):
        row = replace(ROW, id=str(number), name=f"name{number}", created_at=float(number))
        sessions.add(database, row)
        sessions.ended(database, row, 9.0, 3, "x" * LOG_MAX + f"log {number}")
    stranger = replace(ROW, id="other", owner="other", created_at=-1.0)
    sessions.add(database, stranger)
    sessions.ended(database, stranger, 9.0, 3)
    assert sessions.all_rows(database) == []
    assert [row.id for row in sessions.ended_rows(database, "default")] == ["3", "2", "1"]
    counts = [len(sessions.ended_rows(database, owner)) for owner in ("other", None)]
    assert counts == [1, 4]
    assert [sessions.log(database, id)[-5:] for id in "0123"] == ["", "log 1", "log 2", "log 3"]
    assert len(sessions.log(database, "1")) == LOG_MAX
    ended = sessions.ended_row(database, "default", "name2")
    assert ended and ended.status == "TERMINATED" and ended.history == {"TERMINATED": 9.0}
    assert sessions.ended_row(database, "other", "name2") is None


def test_name_of_several_ended_sessions_means_the_newest(database: Database) -> None:
    for number in range(3):
        row = replace(ROW, id=str(number), created_at=float(number))
        sessions.add(database, row)
        sessions.ended(database, row, 9.0, 10)
    assert [r.id if r else None for r in (sessions.ended_row(database, "default", ref)
            for ref in ("first", "0", "nobody"))] == ["2", "0", None]  # fmt: skip


def test_two_sessions_of_an_owner_cannot_have_one_name(database: Database) -> None:
    sessions.add(database, ROW)
    with pytest.raises(sqlite3.IntegrityError):
        sessions.add(database, replace(ROW, id="2"))
    sessions.add(database, replace(ROW, id="3", owner="other"))
    assert len(sessions.all_rows(database)) == 2


def test_session_that_is_being_destroyed_frees_its_name_and_slot(database: Database) -> None:
    sessions.add(database, ROW)
    row = sessions.move(database, ROW, "RUNNING", 2.0, slot=7)
    sessions.move(database, row, "TERMINATING", 3.0)
    other = replace(ROW, id="2")
    sessions.add(database, other)
    sessions.move(database, other, "RUNNING", 4.0, slot=7)


def test_change_of_a_session_row_leaves_other_columns_alone(database: Database) -> None:
    sessions.add(database, ROW)
    runs.add(database, ROW.id, 5.0, [RUN])
    sessions.change(database, ROW, tag="x")
    (row,) = sessions.all_rows(database)
    assert (row.runs, row.used_at, row.tag) == (1, 5.0, "x")


def test_database_that_cannot_be_shared_again_is_unwritable_until_it_can(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Database(path).close()
    with monkeypatch.context() as full:
        full.setattr(Database, "_has_room", lambda _: False)
        full.setattr("os.open", lambda *_: (_ for _ in ()).throw(OSError(28, "no room")))
        database = Database(path)
    with monkeypatch.context() as quota:
        quota.setattr("os.open", lambda *_: (_ for _ in ()).throw(OSError(122, "quota")))
        with pytest.raises(Unwritable):
            sessions.add(database, ROW)
    sessions.add(database, ROW)
    assert [row.id for row in sessions.all_rows(database)] == [ROW.id]
    database.close()


def test_added_runs_replace_others_in_one_transaction(database: Database) -> None:
    sessions.add(database, ROW)
    first = runs.add(database, ROW.id, 5.0, [RUN, RUN])
    with pytest.raises(KeyError):
        runs.add(database, "none", 5.0, [RUN], first)
    assert runs.add(database, ROW.id, 5.0, [RUN], first[1:]) == [3]
    assert [run.number for run in runs.all_rows(database)[ROW.id]] == [1, 3]


def test_row_of_a_run_says_with_a_boolean_whether_the_run_has_begun(database: Database) -> None:
    sessions.add(database, ROW)
    runs.add(database, ROW.id, 5.0, [RUN, RUN])
    runs.begun(database, ROW.id, 2)
    begun = [row.begun for row in runs.all_rows(database)[ROW.id]]
    assert begun[0] is False and begun[1] is True


def test_run_numbers_are_never_used_again(path: str) -> None:
    database = Database(path)
    sessions.add(database, ROW)
    numbers: list[int] = []

    def count() -> None:
        for _ in range(25):
            numbers.extend(runs.add(database, ROW.id, 1.0, [RUN]))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    database.close()
    again = Database(path)
    numbers.extend(runs.add(again, ROW.id, 1.0, [RUN]))
    again.close()
    assert sorted(numbers) == list(range(1, 102))


def test_removed_session_has_no_runs(database: Database) -> None:
    sessions.add(database, ROW)
    sessions.remove(database, ROW.id)
    with pytest.raises(KeyError):
        runs.add(database, ROW.id, 1.0, [RUN])


OWNERS = 1 + next(n for n, step in enumerate(MIGRATIONS) if "SET owner = 'uid:0'" in step)
"""The version from which the owner at the Unix socket is a user."""


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
def test_sessions_of_an_earlier_sandboxd_are_migrated(
    path: str, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    monkeypatch.setattr("sandboxd.store.database.MIGRATIONS", MIGRATIONS[:version])
    first = Database(path)
    with first.transaction() as connection:
        connection.execute(
            "INSERT INTO sessions (id, name, owner, image, runtime, slot, limits, environ, status, "
            "created_at, runs) VALUES ('1', 'old', 'local', 'c', 'c', 7, '{}', '{}', 'RUNNING', "
            "5.5, 2)"
        )
    first.close()
    monkeypatch.undo()
    second = Database(path)
    (row,) = sessions.all_rows(second)
    owner = "uid:0" if version < OWNERS else "local"
    assert (row.name, row.owner, row.slot, row.runs) == ("old", owner, 7, 2)
    assert (row.type, row.result, row.mounts, row.history) == ("interactive", "UNDEFINED", (), {})
    assert runs.add(second, "1", 9.0, [RUN, RUN]) == [3, 4]
    assert [run.number for run in runs.all_rows(second)["1"]] == [3, 4]
    second.close()


def test_owner_in_a_database_without_keypairs_is_root(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandboxd.store.database.MIGRATIONS", MIGRATIONS[:1])
    first = Database(path)
    with first.transaction() as connection:
        connection.execute(
            "INSERT INTO sessions VALUES ('1', 'old', 'default', 'c', 'c', 7, '{}', '{}', "
            "'RUNNING', 5.5, 2)"
        )
    first.close()
    monkeypatch.undo()
    second = Database(path)
    assert sessions.all_rows(second)[0].owner == "uid:0"
    second.close()


def test_run_row_stays_until_it_is_removed_or_its_session_ends(database: Database) -> None:
    sessions.add(database, ROW)
    run = RunRow(ROW.id, 0, "r", '{"steps": []}', b"in\0put", "boot")
    assert runs.add(database, ROW.id, 5.0, [run, run]) == [1, 2]
    values = {"used_at": 6.0, "usage": {"runs": 1}}
    runs.ended(database, ROW.id, [runs.RunEnd(1, 6.0, lambda: "{}", values)])
    first, second = runs.all_rows(database)[ROW.id]
    assert first == replace(run, number=1, ended_at=6.0, plan="{}", stdin=b"")
    assert second == replace(run, number=2)
    assert sessions.all_rows(database)[0].usage == {"runs": 1}
    runs.remove(database, ROW.id, [1])
    assert [each.number for each in runs.all_rows(database)[ROW.id]] == [2]
    sessions.ended(database, ROW, 7.0, 3)
    assert runs.all_rows(database) == {}


def test_damaged_database_is_refused_with_the_remedy(path: str) -> None:
    database = Database(path)
    for number in range(200):
        sessions.add(database, replace(ROW, id=str(number), name=f"name{number}"))
    database.close()
    with open(path, "r+b") as file:
        for page in range(3, 12):
            file.seek(page * 4096)
            file.write(b"\xa5" * 4096)
    with pytest.raises(ConfigError, match=r"move it.* away") as refused:
        Database(path)
    assert "\n" not in str(refused.value)


def test_transaction_that_fails_changes_nothing(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.transaction() as connection:
        connection.execute("DELETE FROM sessions")
        raise ZeroDivisionError
    sessions.add(database, ROW)
    with pytest.raises(ZeroDivisionError), database.transaction() as connection:
        connection.execute("DELETE FROM sessions")
        raise ZeroDivisionError
    assert len(sessions.all_rows(database)) == 1


def test_database_of_a_later_sandboxd_is_refused(path: str) -> None:
    Database(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(ConfigError, match="later"):
        Database(path)


def test_file_that_is_not_a_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("certainly no database " * 100)
    with pytest.raises(ConfigError, match="cannot be used"):
        Database(str(path))


def test_second_process_that_opens_the_database_sees_it_in_use(path: str) -> None:
    database = Database(path)
    # SQLite holds a shared lock on this byte as long as the index of the log is used (os_unix.c,
    # UNIX_SHM_DMS). A process that finds it free truncates the index, which all others use.
    script = (
        "import fcntl, sys; file = open(sys.argv[1], 'r+b')\n"
        "fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 128)"
    )
    tried = subprocess.run([sys.executable, "-c", script, f"{path}-shm"], capture_output=True)
    assert b"BlockingIOError" in tried.stderr, tried.stderr
    database.close()
