"""Runs as clients see them, without HTTP: the queue of a session, calls, console, terminals.

`journal`, `next_answer` and `console_items` are rules without I/O, `plan` and `polling` values.
`channel`, `spool_reader`, `cursor` and `follower` reach a run through its socket and its files.
`run` is one run, `client_calls` serves its client, `queue` has the runs of a session,
`terminals` those beside the queue.
"""
