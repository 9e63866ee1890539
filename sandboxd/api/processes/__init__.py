"""The other processes of sandboxd, as the api speaks to them: the warden, and file helpers."""
