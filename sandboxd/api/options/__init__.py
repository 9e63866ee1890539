"""The options of runs and sessions in requests: forms, bounds, and the words about them.

`batch` and `cases` are the options of runs. `limit_values` has the names and values of limits,
`requested_limits` those that a session requests, and `granted_limits` those that sessions and runs
get. `variables` and `texts` check these, and `wording` puts an advice into the words of its reader.
"""
