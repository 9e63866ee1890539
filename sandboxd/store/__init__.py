"""What outlives a restart: the sessions, in SQLite."""
