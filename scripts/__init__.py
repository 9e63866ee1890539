"""Tools for the developers of sandboxd; nothing here is installed."""
