"""The process that owns one run, and the run's init. Standard library only."""
