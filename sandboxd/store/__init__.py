"""The state that outlives a restart, in SQLite: sessions, runs, folders, keypairs."""
