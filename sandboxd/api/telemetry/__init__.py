"""The reports of the daemon: audit log, metrics, and the accounting of runs."""
