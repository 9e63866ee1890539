"""The attacks of the self-test, as data, by kind."""
