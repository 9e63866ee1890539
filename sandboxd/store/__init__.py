"""What outlives a restart: sessions and keypairs, in SQLite."""
