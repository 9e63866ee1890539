"""The rules for names below /home/work, and the file helper that lists, reads and writes by them.

Standard library only: this code runs in a fork of the warden, as the session's uid.
"""
