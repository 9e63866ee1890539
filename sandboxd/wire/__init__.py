"""The conversations between the processes of sandboxd.

`messages` sends and receives one JSON object a packet, with descriptors. `ops` is the table of the
requests that the warden serves, and `kinds` has the kinds of their values. `control_ops` is the
table of the messages to the shim of a run. `file_calls` is the protocol between the api and a file
helper.
"""
