"""The options of runs and sessions in requests: forms, bounds, and the words about them.

`batch` and `cases` are the options of runs, `sizes` the amounts and limits in them,
`requested_limits` those of a session, and `wording` puts an advice into the words of its reader.
"""
