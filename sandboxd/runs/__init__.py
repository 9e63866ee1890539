"""Runs as clients see them: the order of a session's runs, what a call answers, the console.

`events`, `table` and `console` are rules without I/O. `channel`, `spooled` and `follower` reach
a run through its socket and its files; `run` answers calls; `line` keeps the runs of a session.
"""
