"""Keypairs: generated, stored, switched off, and not removed while they own sessions."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import replace

import pytest

from sandboxd.errors import NotFound, Refused
from sandboxd.store import keypairs, sessions
from sandboxd.store.database import Database
from sandboxd.store.migrations import MIGRATIONS
from sandboxd.store.sessions import SessionRow


def session(owner: str) -> SessionRow:
    return SessionRow("11111111-1111-4111-8111-111111111111", "name", owner, "c", "c", 1.5)


def test_generated_keypairs_have_their_form_and_no_two_are_the_same() -> None:
    generated = [keypairs.generate(False, 0) for _ in range(200)]
    for keypair in generated:
        assert re.fullmatch("AK[A-Z0-9]{18}", keypair.access_key)
        assert re.fullmatch("[A-Za-z0-9]{40}", keypair.secret_key)
        assert keypair.secret_key not in repr(keypair)
    assert len({k.access_key for k in generated}) == len({k.secret_key for k in generated}) == 200


def test_keypair_comes_back_as_it_was_after_a_restart(path: str) -> None:
    keypair = keypairs.generate(True, 12.5, rate_limit=7)
    first = Database(path)
    keypairs.add(first, keypair)
    keypairs.add(first, replace(keypair, access_key="AK2", created_at=13.5))
    keypairs.set_active(first, "AK2", False)
    keypairs.used(first, "AK2", 99.0)
    first.close()
    second = Database(path)
    other = replace(keypair, access_key="AK2", created_at=13.5, is_active=False, last_used=99.0)
    assert keypairs.all_keypairs(second) == [keypair, other]
    second.close()


def test_second_keypair_with_the_same_access_key_is_refused(database: Database) -> None:
    keypair = keypairs.generate(False, 0)
    keypairs.add(database, keypair)
    with pytest.raises(sqlite3.IntegrityError):
        keypairs.add(database, keypair)


def test_change_of_an_unknown_keypair_is_refused(database: Database) -> None:
    with pytest.raises(NotFound):
        keypairs.set_active(database, "AK", True)
    with pytest.raises(NotFound):
        keypairs.remove(database, "AK")


def test_keypair_with_sessions_is_removed_only_by_force_and_its_sessions_stay(
    database: Database,
) -> None:
    keypair = keypairs.generate(False, 0)
    keypairs.add(database, keypair)
    sessions.add(database, session(keypair.access_key))
    with pytest.raises(Refused, match="owns 1 sessions and 0 folders"):
        keypairs.remove(database, keypair.access_key)
    assert keypairs.all_keypairs(database) == [keypair]
    keypairs.remove(database, keypair.access_key, force=True)
    assert keypairs.all_keypairs(database) == []
    assert [row.owner for row in sessions.all_rows(database)] == [keypair.access_key]


def test_database_version_changes_with_another_process_writes_and_not_with_reads(path: str) -> None:
    ours, other = Database(path), Database(path)
    before = ours.version()
    assert keypairs.all_keypairs(other) == [] and ours.version() == before
    keypairs.add(other, keypairs.generate(False, 0))
    assert ours.version() != before
    before = ours.version()
    keypairs.used(ours, "AK", 1)  # one's own as well
    keypairs.set_active(ours, keypairs.all_keypairs(ours)[0].access_key, False)
    assert ours.version() != before
    ours.close()
    other.close()


def test_sessions_of_a_database_without_keypairs_belong_to_root(path: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(MIGRATIONS[0])
    connection.execute("PRAGMA user_version = 1")
    connection.execute(
        "INSERT INTO sessions VALUES ('1', 'name', 'default', 'c', 'c', NULL, '{}', '{}',"
        " 'RUNNING', 1.5, 0)"
    )
    connection.close()
    database = Database(path)
    assert [row.owner for row in sessions.all_rows(database)] == ["uid:0"]
    database.close()
