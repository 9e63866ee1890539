"""The bounds of a session and an owner, with a clock that the test moves."""

from __future__ import annotations

from sandboxd.broker.shares import DAY_S, NetworkBounds, Share


class Clock:
    """A clock that stays until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def share(clock: Clock, **bounds: int) -> Share:
    return Share(NetworkBounds(**{"connections": 2, "bytes": 1000, "rate": 100} | bounds), clock)


def test_connections_have_room_up_to_the_bound() -> None:
    one = share(Clock())
    for connections, room in ((0, True), (1, True), (2, False)):
        one.connections = connections
        assert one.has_room is room


def test_transfer_waits_as_long_as_its_rate_demands() -> None:
    clock = Clock()
    one = share(clock)
    for size, rest, delay in (
        (100, 0.0, 0.0),  # the bucket was full
        (50, 0.0, 0.5), (100, 0.5, 1.0),
        (100, 100.0, 0.0),  # a long rest fills the bucket once
        (10, 0.0, 0.1),
    ):  # fmt: skip
        clock.now += rest
        one.spend(size)
        assert one.delay == delay


def test_bytes_of_a_day_end_and_begin_again_a_day_later() -> None:
    clock = Clock()
    one = share(clock, rate=10_000)
    one.spend(999)
    assert not one.is_used_up
    one.spend(1)
    assert one.is_used_up
    clock.now += DAY_S
    assert not one.is_used_up
