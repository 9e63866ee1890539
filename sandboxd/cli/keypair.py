"""`sandboxd keypair`: creates, lists, disables, enables and deletes keypairs.

The command works on the api's database, beside a running daemon or before the first start. Root
makes the directories where they are missing and then becomes the api's uid for good: SQLite
follows names in a directory that the api controls, and its files must belong to the api.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import sys
import time
from datetime import UTC, datetime

from ..config import toml_file
from ..config.settings import Config
from ..errors import ConfigError, NotFound, Refused
from ..jail import identity
from ..store import keypairs
from ..store.database import Database
from ..store.keypairs import Keypair
from ..warden.slots import state_directory


def main(args: argparse.Namespace) -> int:
    """Do one action; the exit status."""
    state_dir = os.path.abspath(args.state_dir) if args.state_dir else None
    database = _open(toml_file.load(args.config, state_dir=state_dir), args.action == "create")
    try:
        _ACTIONS[args.action](database, args)
    except NotFound as error:
        raise ConfigError(f"{error}; see 'sandboxd keypair list'") from None
    except sqlite3.Error as error:
        raise ConfigError(f"the database cannot be changed: {error}; try again") from None
    finally:
        database.close()
    return 0


def _open(config: Config, make: bool) -> Database:
    """The database, opened as the api's uid. Raises ConfigError."""
    uid = state_directory.owner(config)
    os.umask(0o077)
    if os.geteuid() == 0:
        if make:
            state_directory.make(config, uid)
        identity.apply(uid, uid)
        identity.verify(uid, uid)
    elif os.geteuid() != uid:
        raise ConfigError(
            "keypair needs root, since only root and the api read the keys; run it with sudo"
        )
    path = state_directory.database_path(config)
    if not make and not os.path.exists(path):
        raise ConfigError(f"there is no {path}; is --state-dir right?")
    return Database(path)


def _create(database: Database, args: argparse.Namespace) -> None:
    if args.rate_limit is not None and args.rate_limit < 1:
        raise ConfigError("--rate-limit must be 1 or more, in requests per 900 seconds")
    keypair = keypairs.generate(args.admin, time.time(), args.rate_limit)
    keypairs.add(database, keypair)
    if args.json:
        shown = {key: getattr(keypair, key) for key in ("access_key", "secret_key", "is_admin")}
        print(json.dumps(shown))
        return
    print(f"access key  {keypair.access_key}\nsecret key  {keypair.secret_key}")
    print("Keep the secret key: it is not shown again.", file=sys.stderr)


def _list(database: Database, args: argparse.Namespace) -> None:
    rows = [_described(keypair) for keypair in keypairs.all_keypairs(database)]
    if args.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'ACCESS KEY':<20}  {'ROLE':<5}  {'STATE':<8}  {'CREATED':<16}  LAST USED")
    for keypair in rows:
        role = "admin" if keypair["is_admin"] else "user"
        state = "active" if keypair["is_active"] else "disabled"
        created, used = _minute(keypair["created_at"]), _minute(keypair["last_used"])
        print(f"{keypair['access_key']:<20}  {role:<5}  {state:<8}  {created:<16}  {used}")


def _described(keypair: Keypair) -> dict[str, object]:
    return {
        "access_key": keypair.access_key,
        "is_admin": keypair.is_admin,
        "is_active": keypair.is_active,
        "created_at": _iso(keypair.created_at),
        "last_used": _iso(keypair.last_used),
        "rate_limit": keypair.rate_limit,
    }


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


def _minute(iso: object) -> str:
    return str(iso)[:16] if iso else "never"


def _disable(database: Database, args: argparse.Namespace) -> None:
    keypairs.set_active(database, args.access_key, False)


def _enable(database: Database, args: argparse.Namespace) -> None:
    keypairs.set_active(database, args.access_key, True)


def _delete(database: Database, args: argparse.Namespace) -> None:
    try:
        keypairs.remove(database, args.access_key, args.force)
    except NotFound:
        raise
    except Refused as error:
        raise ConfigError(
            f"{error}; delete those first, or disable it instead, or use --force to leave them "
            "to the admins"
        ) from None


_ACTIONS = {
    "create": _create, "list": _list, "disable": _disable, "enable": _enable, "delete": _delete,
}  # fmt: skip
