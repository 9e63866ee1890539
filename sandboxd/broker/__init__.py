"""The broker: the unprivileged process that connects runs to the hosts of their profile."""
