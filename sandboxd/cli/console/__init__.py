"""The console and the input of a run, for a command."""
