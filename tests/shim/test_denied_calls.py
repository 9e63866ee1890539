"""The answers to refused calls: every waiting program gets its own, also when others have died."""

from __future__ import annotations

import errno
import os
import selectors

from sandboxd.jail.uncounted_memory import FILE_LOCK
from sandboxd.shim.bounded_calls import MEETING_PART, OFD_LOCKS_MAX
from sandboxd.shim.denied_calls import FREE, DeniedCalls


def test_caller_that_was_killed_before_its_answer_does_not_end_the_answers() -> None:
    """The listener was ready, but no program waits any more when it is read. The two ends of a pipe
    replace the listener here: a selector reports them in the same way."""
    reader, writer = os.pipe()
    selector = selectors.DefaultSelector()
    denied = DeniedCalls(reader, {})
    denied.watch(selector)
    denied._readable(reader)
    assert denied.resume(0.0) is None
    os.write(writer, b"x")
    assert [key.fd for key, _ in selector.select(0)] == [reader], "the next caller is seen"
    os.close(writer)
    denied.close()


def test_listener_whose_last_process_has_gone_is_not_looked_at_for_ever() -> None:
    reader, writer = os.pipe()
    os.close(writer)
    selector = selectors.DefaultSelector()
    denied = DeniedCalls(reader, {})
    denied.watch(selector)
    denied._readable(reader)
    assert denied.resume(0.0) == float("inf")
    assert not selector.get_map()
    denied.close()


def test_next_run_of_a_warm_jail_does_not_wait_for_the_flood_of_the_run_before() -> None:
    """A run that ends within the pause after a flood left its end to the next run, which failed."""
    reader, writer = os.pipe()
    denied = DeniedCalls(reader, {})
    first = selectors.DefaultSelector()
    denied.watch(first)
    denied._total = FREE + 1.0
    denied._pause(0.0)
    first.close()
    second = selectors.DefaultSelector()
    denied.watch(second)
    assert denied.resume(1.0) is None
    assert list(second.get_map()) == [reader] and denied._total == 0
    os.close(writer)
    denied.close()


def test_next_step_of_a_run_has_no_locks_of_its_own() -> None:
    """A program of another run can still have those of the step before, in a socket."""
    reader, writer = os.pipe()
    denied = DeniedCalls(reader, {})
    selector = selectors.DefaultSelector()
    denied.watch(selector, meets_others=True)
    for _ in range(OFD_LOCKS_MAX // MEETING_PART):
        assert denied._decide(FILE_LOCK) == (0, 1)
    denied.begin()
    assert denied._decide(FILE_LOCK) == (-errno.ENOLCK, 0)
    assert denied.counts == {FILE_LOCK: 1}
    os.close(writer)
    denied.close()
