"""The state of the daemon as its operator sees it: health, leaks, drain."""
