"""Random input for every parser of what another process or a client sends.

Each test has a rule that holds for any bytes: they are read, or refused by the error for it. The
environment variable FUZZ sets the effort; `scripts/fuzz` repeats these tests with other seeds.
"""
