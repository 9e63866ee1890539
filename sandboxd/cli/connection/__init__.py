"""The connection of a command to its daemon, and the session of the command."""
