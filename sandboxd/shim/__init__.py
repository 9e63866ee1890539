"""The shim, the process that owns one run, and the init of that run. Standard library only."""
