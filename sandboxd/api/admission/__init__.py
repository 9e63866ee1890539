"""Admission: the decision whether a run or a session begins now, waits, or is refused.

`capacity` has the memory, disk and tasks that the host can promise, `fair_queue` the order in which
owners take turns, and `admission` the reservations of runs and sessions.
"""
