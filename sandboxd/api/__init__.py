"""The unprivileged half of sandboxd: HTTP, sessions and runs as clients see them.

It has no capability, no right to the sessions' files and no way to their processes but the
requests of wire/messages.py. Everything from a client or from a session is untrusted here.
"""
