"""Tools for those who work on sandboxd; nothing here is installed."""
