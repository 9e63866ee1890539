"""The rules of /home/work, and the file helper that lists, reads and writes by them.

Only the standard library: this code runs in a fork of the warden, as the session's uid.
"""
