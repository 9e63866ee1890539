"""Nothing of a session's environment and commands is in the files of the database after its end."""

from __future__ import annotations

import asyncio
import random
import re
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from sandboxd.store import runs, secret_removal, sessions
from sandboxd.store.database import Database
from sandboxd.store.migrations import MIGRATIONS
from sandboxd.store.runs import RunRow
from sandboxd.store.secret_removal import SecretRemoval, remove_secrets
from sandboxd.store.sessions import SessionRow

from ..waiting import eventually

pytestmark = pytest.mark.slow  # databases of many sessions

SECRET = "hunter2-"
SECRETS = re.compile(rb"hunter2-([0-9]+)")


def session(number: int, pad: int = 0) -> SessionRow:
    secret = f"{SECRET}{number}{'x' * pad}"
    return SessionRow(
        f"{number:08}", f"name-{number}", "uid:1", "c", "c", 1.0, environ={"TOKEN": secret},
        startup_command=f"login {secret}", bootstrap_script=f"echo {secret}", type="batch",
    )  # fmt: skip


def run(number: int, pad: int = 0) -> RunRow:
    secret = f"{SECRET}{number}{'y' * pad}"
    return RunRow(f"{number:08}", 0, "run", f'{{"command": "{secret}"}}', secret.encode(), "boot")


def remains(path: str) -> dict[str, int]:
    """The number of secrets in each file of the database that has one."""
    files = Path(path).parent.glob(f"{Path(path).name}*")
    counts = {file.name: file.read_bytes().count(SECRET.encode()) for file in files}
    return {name: count for name, count in counts.items() if count}


def add(database: Database, number: int, pad: int = 0) -> SessionRow:
    row = session(number, pad)
    sessions.add(database, row)
    runs.add(database, row.id, 2.0, [run(number, pad)])
    return row


def test_secrets_are_in_the_files_while_the_session_lives(database: Database, path: str) -> None:
    add(database, 1)
    assert remains(path), "the test looks where secrets are"


def test_end_of_a_session_leaves_no_secret_in_any_file(database: Database, path: str) -> None:
    row = add(database, 1)
    sessions.ended(database, row, 3.0, keep=10)
    assert database.has_remains
    remove_secrets(database)
    assert not database.has_remains and remains(path) == {}
    (ended,) = sessions.ended_rows(database)
    assert (ended.environ, ended.startup_command, ended.bootstrap_script) == ({}, "", "")
    assert (ended.name, ended.type) == (row.name, "batch")


def test_session_that_was_never_completed_leaves_no_secret(database: Database, path: str) -> None:
    row = add(database, 1)
    sessions.remove(database, row.id)
    remove_secrets(database)
    assert remains(path) == {}


def many(database: Database, seed: int) -> set[int]:
    """A thousand sessions of many sizes, all but forty of which end; the numbers of those."""
    chance, live, over = random.Random(seed), list[SessionRow](), set[int]()
    with database.group():
        for number in range(1000):
            live.append(add(database, number, chance.choice([0, 10, 400, 3000, 9000])))
            if len(live) > 40 or chance.random() < 0.5:
                row = live.pop(chance.randrange(len(live)))
                sessions.ended(database, row, 3.0, keep=50)
                over.add(int(row.id))
    return over


def numbers(path: str) -> set[int]:
    """The sessions whose secrets the database file has."""
    return {int(number) for number in SECRETS.findall(Path(path).read_bytes())}


@pytest.mark.parametrize("seed", [0, 1, 2, 7, 13])
def test_many_sessions_that_end_beside_others_leave_no_secret(
    database: Database, path: str, seed: int
) -> None:
    over = many(database, seed)
    remove_secrets(database)
    assert not numbers(path) & over and len(numbers(path)) == 1000 - len(over)
    assert Path(f"{path}-wal").stat().st_size == 0


def test_without_the_removal_secrets_stay_in_the_log_and_in_a_page_that_was_split(
    tmp_path: Path,
) -> None:
    """The version of SQLite says in which of these sequences a page is split so."""
    for seed in range(60):
        path = str(tmp_path / str(seed))
        database = Database(path)
        over = many(database, seed)
        assert Path(f"{path}-wal").read_bytes().count(SECRET.encode())
        assert database.truncate_log()
        has_remains = bool(numbers(path) & over)
        database.close()
        if has_remains:
            return
    pytest.fail("no page with a copy of a row: is secure_delete enough by now?")


def test_secrets_of_sessions_that_live_survive_the_removal(database: Database, path: str) -> None:
    over, living = add(database, 1), add(database, 2)
    sessions.ended(database, over, 3.0, keep=10)
    remove_secrets(database)
    assert sessions.all_rows(database) == [replace(living, runs=1, used_at=2.0)]
    (left,) = runs.all_rows(database)[living.id]
    assert left.plan == run(2).plan and left.stdin == run(2).stdin


def test_log_that_another_process_reads_is_truncated_when_it_has_ended(
    database: Database, path: str
) -> None:
    row = add(database, 1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT count(*) FROM sessions").fetchone()
    sessions.ended(database, row, 3.0, keep=10)
    remove_secrets(database)
    assert database.has_remains
    other.close()
    remove_secrets(database)
    assert remains(path) == {}


def test_removal_is_no_commit_of_another_process(database: Database, path: str) -> None:
    row = add(database, 1)
    other = Database(path)
    seen = database.version()
    sessions.ended(database, row, 3.0, keep=10)
    before = database.version()
    remove_secrets(database)
    with database.group():
        pass
    assert seen and before and database.version() == database.version()
    other.close()


def test_task_truncates_the_log_after_the_end_and_ends_itself(
    database: Database, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secret_removal, "PAUSE_S", 0)

    async def scenario() -> None:
        removal = SecretRemoval(database)
        remove_secrets(database)
        removal.begin_if_due()
        assert removal._task is None, "nothing has ended"
        for number in range(3):
            row = add(database, number)
            await database.run(sessions.ended, row, 3.0, 10)
            removal.begin_if_due()
        await eventually(lambda: not database.has_remains)
        assert remains(path) == {}
        await removal.close()

    asyncio.run(scenario())


def test_sessions_that_ended_before_this_version_lose_their_secrets_at_the_first_start(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandboxd.store.database.MIGRATIONS", MIGRATIONS[:9])
    Database(path).close()
    monkeypatch.undo()
    old = sqlite3.connect(path)
    old.execute("PRAGMA secure_delete = OFF")
    for number in range(20):
        pad = "x" * 500
        status = "RUNNING" if number == 7 else "TERMINATED"
        old.execute(
            "INSERT INTO sessions (id, name, owner, image, runtime, limits, environ, status, "
            "created_at, runs, startup_command) VALUES (?, ?, 'o', 'c', 'c', '{}', ?, ?, 5, 0, ?)",
            (number, number, f'{{"TOKEN": "{SECRET}{number}{pad}"}}', status, f"{SECRET}{number}"),
        )
        old.execute("INSERT INTO runs VALUES (?, 1, 'r', ?, NULL, 'b', NULL, 0)", (number, SECRET))
        old.execute("DELETE FROM runs")
    old.commit()
    old.close()
    assert remains(path)["sandboxd.sqlite"] > 20
    new = Database(path)
    rows = sessions.ended_rows(new)
    assert len(rows) == 19 and not any(row.environ or row.startup_command for row in rows)
    (living,) = sessions.all_rows(new)
    assert living.environ["TOKEN"].startswith(f"{SECRET}7") and living.startup_command
    sessions.ended(new, living, 6.0, keep=100)
    remove_secrets(new)
    assert remains(path) == {}
    new.close()
