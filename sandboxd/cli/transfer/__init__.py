"""The transfer of files between this host and a session or a virtual folder."""
