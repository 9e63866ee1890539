"""The schema of the database, as the steps from each version to the next."""

from __future__ import annotations

from collections.abc import Sequence

MIGRATIONS: Sequence[str] = (
    """
    CREATE TABLE sessions (
        id          TEXT PRIMARY KEY,      -- UUID
        name        TEXT NOT NULL,
        owner       TEXT NOT NULL,
        image       TEXT NOT NULL,         -- as the client wrote it
        runtime     TEXT NOT NULL,
        slot        INTEGER,               -- NULL until the warden has leased one
        limits      TEXT NOT NULL,         -- JSON: fields of model.Limits that were asked for
        environ     TEXT NOT NULL,         -- JSON
        status      TEXT NOT NULL,         -- PREPARING, RUNNING, TERMINATING, TERMINATED
        created_at  REAL NOT NULL,         -- seconds since 1970
        runs        INTEGER NOT NULL       -- number of the last run
    ) STRICT;
    -- what is being destroyed takes neither name nor slot away from what comes after it
    CREATE UNIQUE INDEX sessions_name ON sessions (owner, name) WHERE status <> 'TERMINATING';
    CREATE UNIQUE INDEX sessions_slot ON sessions (slot) WHERE status <> 'TERMINATING';
    """,
    """
    CREATE TABLE keypairs (
        access_key  TEXT PRIMARY KEY,
        secret_key  TEXT NOT NULL,         -- readable: HMAC needs the secret itself
        is_admin    INTEGER NOT NULL,
        is_active   INTEGER NOT NULL,
        created_at  REAL NOT NULL,         -- seconds since 1970
        last_used   REAL,                  -- seconds since 1970, NULL: never
        rate_limit  INTEGER                -- requests in a window, NULL: as configured
    ) STRICT;
    -- the one owner of before there were keys
    UPDATE sessions SET owner = 'local' WHERE owner = 'default';
    """,
    """
    CREATE TABLE folders (
        id          TEXT PRIMARY KEY,      -- UUID
        name        TEXT NOT NULL,
        owner       TEXT NOT NULL,
        size        INTEGER NOT NULL,      -- bytes
        permission  TEXT NOT NULL,         -- ro, rw, wd
        usage_mode  TEXT NOT NULL,
        cloneable   INTEGER NOT NULL,
        created_at  REAL NOT NULL,         -- seconds since 1970
        status      TEXT NOT NULL,         -- MAKING, READY, DELETING
        UNIQUE (owner, name)
    ) STRICT;
    -- JSON: the fields of model.Attachment, in a list
    ALTER TABLE sessions ADD COLUMN mounts TEXT NOT NULL DEFAULT '[]';
    """,
    """
    ALTER TABLE sessions ADD COLUMN type TEXT NOT NULL DEFAULT 'interactive';
    ALTER TABLE sessions ADD COLUMN tag TEXT NOT NULL DEFAULT '';
    ALTER TABLE sessions ADD COLUMN startup_command TEXT NOT NULL DEFAULT '';
    ALTER TABLE sessions ADD COLUMN bootstrap_script TEXT NOT NULL DEFAULT '';
    ALTER TABLE sessions ADD COLUMN status_info TEXT NOT NULL DEFAULT '';
    ALTER TABLE sessions ADD COLUMN result TEXT NOT NULL DEFAULT 'UNDEFINED';
    ALTER TABLE sessions ADD COLUMN exit_code INTEGER;
    ALTER TABLE sessions ADD COLUMN done_at REAL;
    ALTER TABLE sessions ADD COLUMN used_at REAL NOT NULL DEFAULT 0;
    ALTER TABLE sessions ADD COLUMN usage TEXT NOT NULL DEFAULT '{}';    -- JSON
    ALTER TABLE sessions ADD COLUMN history TEXT NOT NULL DEFAULT '{}';  -- JSON
    UPDATE sessions SET used_at = created_at;
    -- sessions that are over stay in the table for a while
    DROP INDEX sessions_name;
    CREATE UNIQUE INDEX sessions_name ON sessions (owner, name)
        WHERE status IN ('PREPARING', 'RUNNING');
    CREATE INDEX sessions_ended ON sessions (status, created_at);
    CREATE TABLE logs (session TEXT PRIMARY KEY, text TEXT NOT NULL) STRICT;
    """,
    """
    CREATE TABLE runs (
        session   TEXT NOT NULL,           -- UUID
        number    INTEGER NOT NULL,
        id        TEXT NOT NULL,           -- as the client knows it
        plan      TEXT NOT NULL,           -- JSON: fields of runs.run.Plan but stdin
        stdin     BLOB,
        boot      TEXT NOT NULL,           -- the kernel's boot id
        ended_at  REAL,                    -- seconds since 1970, NULL until it is accounted for
        PRIMARY KEY (session, number)
    ) STRICT;
    """,
    """
    -- a session that waits for its turn has its name, too
    DROP INDEX sessions_name;
    CREATE UNIQUE INDEX sessions_name ON sessions (owner, name)
        WHERE status IN ('PENDING', 'PREPARING', 'RUNNING');
    """,
    """
    -- one row: what the clock of the host was last seen to say, in seconds since 1970
    CREATE TABLE clock (seen REAL NOT NULL) STRICT;
    INSERT INTO clock VALUES (0);
    """,
    "ALTER TABLE runs ADD COLUMN begun INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE sessions ADD COLUMN idle_s REAL NOT NULL DEFAULT 0",
    """
    -- the owner at the Unix socket, of before users had sessions of their own, was root's equal
    UPDATE sessions SET owner = 'uid:0' WHERE owner = 'local';
    UPDATE folders SET owner = 'uid:0' WHERE owner = 'local';
    -- one row for each session that is not over, whose own columns of these names are blank
    CREATE TABLE secrets (
        session           TEXT PRIMARY KEY,  -- UUID
        environ           TEXT NOT NULL,     -- JSON
        startup_command   TEXT NOT NULL,
        bootstrap_script  TEXT NOT NULL
    ) STRICT;
    INSERT INTO secrets SELECT id, environ, startup_command, bootstrap_script FROM sessions
        WHERE status <> 'TERMINATED';
    UPDATE sessions SET environ = '{}', startup_command = '', bootstrap_script = '';
    """,
    # JSON: the fields of model.NetworkGrant, or null
    "ALTER TABLE sessions ADD COLUMN network TEXT NOT NULL DEFAULT 'null'",
    """
    ALTER TABLE sessions ADD COLUMN ttl_s REAL NOT NULL DEFAULT 0;
    ALTER TABLE sessions ADD COLUMN renewed_at REAL NOT NULL DEFAULT 0;
    """,
    # JSON: the fields of model.Workspace, or null
    "ALTER TABLE sessions ADD COLUMN workspace TEXT NOT NULL DEFAULT 'null'",
)
"""Each brings the schema from the version that is its index to the next (PRAGMA user_version)."""
