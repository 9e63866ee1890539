"""The command line. Each subcommand is a module, which is imported on its first use."""
