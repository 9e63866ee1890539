"""What is told of all that happens: the audit log, the metrics, the account of runs."""
