"""The rule that finds strays: everything that nobody has, and nothing that anybody may have."""

from __future__ import annotations

import itertools

import pytest

from sandboxd.warden.leaks.rule import (
    STALE_S,
    Expected,
    Leak,
    Lease,
    Loop,
    Object,
    Process,
    SlotDirectory,
    Survey,
    Temporary,
    leaks,
)

FIRST, COUNT = 1000, 10
LEASED, EMPTYING, FREE, KEPT, BEYOND = 3, 4, 5, 6, COUNT
UUID = "6b8f4cd0-5c8e-4c33-9d7c-0a6a4b7e1f11"
LEASE = Lease(LEASED, "a session", frozenset((70, 71)), frozenset((f"{LEASED}.1", f"{LEASED}.2")))
KNOWN = Expected(
    FIRST, COUNT, {LEASED: LEASE}, frozenset((EMPTYING,)), frozenset((f"{FREE}.9",)),
    frozenset((UUID,)),
)  # fmt: skip


def found(known: Expected = KNOWN, **seen: object) -> list[Leak]:
    return list(leaks(known, Survey(**seen)))  # type: ignore[arg-type]  # each test gives its own


HELD = [SlotDirectory(KEPT, "another session", 9.0)]  # of a slot that a later daemon may take up
NUMBERS = (LEASED, EMPTYING, FREE, KEPT, BEYOND, -1)
PIDS = (70, 99)
GROUPS = (
    None, "daemon", f"{LEASED}.1", f"{LEASED}.7", f"{EMPTYING}.1", f"{FREE}.1", f"{FREE}.9",
    f"{KEPT}.1",
)  # fmt: skip


@pytest.mark.parametrize(
    ("number", "pid", "group", "zombie", "foreign"),
    list(itertools.product(NUMBERS, PIDS, GROUPS, (False, True), (False, True))),
)
def test_a_process_is_a_stray_exactly_when_nobody_has_it(
    number: int, pid: int, group: str | None, zombie: bool, foreign: bool
) -> None:
    process = Process(pid, 1, FIRST + number, 5.0, "x", zombie, group, foreign)
    known_groups = ("daemon", f"{LEASED}.1", f"{EMPTYING}.1", f"{FREE}.9", f"{KEPT}.1")
    if foreign or number in (BEYOND, -1, EMPTYING, KEPT) or group in known_groups:
        expected = False
    elif number == LEASED:
        expected = pid not in LEASE.pids and not zombie
    else:
        expected = True
    told = found(processes=[process], directories=HELD)
    assert bool(told) == expected
    if told:
        (stray,) = told
        assert (stray.kind, stray.slot, stray.target) == ("process", number, (pid, 1, zombie))
        assert str(pid) in stray.identity and stray.age_s == 5.0


@pytest.mark.parametrize(
    ("number", "session"), list(itertools.product(NUMBERS[:5], ("", "a session")))
)
def test_a_directory_is_a_stray_when_it_is_not_leased_and_names_no_session(
    number: int, session: str
) -> None:
    told = found(directories=[SlotDirectory(number, session, 1.0)])
    assert bool(told) == (number in (FREE, KEPT) and not session)
    if told:
        assert (told[0].kind, told[0].slot) == ("directory", number)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (f"{LEASED}.1", False), (f"{LEASED}.3", True), (f"{EMPTYING}.3", False),
        (f"{FREE}.1", True), (f"{FREE}.9", False), (f"{BEYOND}.1", True), ("daemon", False),
        ("somebody's", False), ("3.1.scope", False), ("3.x", False), (f"{KEPT}.1", False),
    ],
)  # fmt: skip
def test_a_group_is_a_stray_when_it_is_of_a_run_that_is_not_known(
    name: str, expected: bool
) -> None:
    told = found(groups={name: 2.0}, directories=HELD)
    assert [(stray.kind, stray.target) for stray in told] == [("cgroup", (name,))] * expected


@pytest.mark.parametrize(
    ("image", "session", "expected"),
    [
        (f"/slots/{LEASED}/image", "", False), (f"/slots/{EMPTYING}/image", "", False),
        (f"/slots/{FREE}/image", "", True), (f"/slots/{FREE}/image", "kept", False),
        (f"/folders/{UUID}/image", "", False), ("/folders/another/image", "", True),
    ],
)  # fmt: skip
def test_a_loop_device_is_a_stray_when_its_image_is_mounted_for_nobody(
    image: str, session: str, expected: bool
) -> None:
    directories = [SlotDirectory(FREE, session, 1.0)] if session else []
    told = found(directories=directories, loops=[Loop("/dev/loop7", image)])
    assert bool(told) == expected


def test_while_a_helper_works_any_folder_may_be_mounted() -> None:
    known = Expected(FIRST, COUNT, folders=None)
    assert not found(known, loops=[Loop("/dev/loop7", "/folders/another/image")])
    assert found(known, loops=[Loop("/dev/loop7", f"/slots/{FREE}/image")])


@pytest.mark.parametrize(
    ("kind", "number"), list(itertools.product(("shm", "sem", "msg", "keys"), NUMBERS))
)
def test_an_object_of_a_slots_uid_outside_of_runs_is_a_stray(kind: str, number: int) -> None:
    item = Object(kind, 42, FIRST + number, 3.0)  # type: ignore[arg-type]  # one of Kind
    told = found(objects=[item], directories=HELD)
    assert bool(told) == (number in (LEASED, FREE))
    if told:
        assert (told[0].kind, told[0].slot, told[0].target) == (kind, number, (42,))


@pytest.mark.parametrize("age", [0.0, STALE_S - 1, STALE_S, 1e9])
def test_a_half_made_image_is_a_stray_when_it_is_old(age: float) -> None:
    told = found(temporaries=[Temporary("/blank/1-2.ext4.new", age)])
    assert bool(told) == (age >= STALE_S)


def test_nothing_is_a_stray_where_nothing_is() -> None:
    assert found() == [] and found(Expected(FIRST, COUNT)) == []
