"""The check for leaks: resources of the host that belong to no session, and their removal."""
