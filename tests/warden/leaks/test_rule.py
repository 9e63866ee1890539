"""The rule that finds leaks: all that belongs to no session, and nothing that may belong to one."""

from __future__ import annotations

import itertools

import pytest

from sandboxd.warden.leaks.rule import (
    STALE_S,
    Expected,
    Leak,
    LeaseRow,
    SlotDirectory,
    Survey,
    Temporary,
    leaks,
)
from sandboxd.warden.slots.host_resources import Loop, Object, Process

from ...each_case import each_case

FIRST, COUNT = 1000, 10
LEASED, EMPTYING, FREE, ADOPTABLE, BEYOND = 3, 4, 5, 6, COUNT
UUID = "6b8f4cd0-5c8e-4c33-9d7c-0a6a4b7e1f11"
LEASE = LeaseRow(
    LEASED, "a session", frozenset((70, 71)), frozenset((f"{LEASED}.1", f"{LEASED}.2"))
)
EXPECTED = Expected(
    FIRST, COUNT, {LEASED: LEASE}, frozenset((EMPTYING,)), frozenset((f"{FREE}.9",)),
    frozenset((UUID,)),
)  # fmt: skip


def judged(expected: Expected = EXPECTED, **survey: object) -> list[Leak]:
    return list(leaks(expected, Survey(**survey)))  # type: ignore[arg-type]  # one part a test


ADOPTABLE_DIRECTORY = [
    SlotDirectory(ADOPTABLE, "another session", 9.0)
]  # of a slot that a later daemon may take up
NUMBERS = (LEASED, EMPTYING, FREE, ADOPTABLE, BEYOND, -1)
PIDS = (70, 99)
GROUPS = (
    None, "daemon", f"{LEASED}.1", f"{LEASED}.7", f"{EMPTYING}.1", f"{FREE}.1", f"{FREE}.9",
    f"{ADOPTABLE}.1",
)  # fmt: skip


def is_leak(number: int, pid: int, group: str | None, zombie: bool, foreign: bool) -> bool:
    """Whether no session and no other daemon has such a process."""
    known_groups = ("daemon", f"{LEASED}.1", f"{EMPTYING}.1", f"{FREE}.9", f"{ADOPTABLE}.1")
    if foreign or number in (BEYOND, -1, EMPTYING, ADOPTABLE) or group in known_groups:
        return False
    return number != LEASED or (pid not in LEASE.pids and not zombie)


def test_process_is_a_leak_exactly_when_no_session_and_no_other_daemon_has_it() -> None:
    for case in itertools.product(NUMBERS, PIDS, GROUPS, (False, True), (False, True)):
        number, pid, group, zombie, foreign = case
        process = Process(pid, 1, FIRST + number, 5.0, "x", zombie, group, foreign)
        result = judged(processes=[process], directories=ADOPTABLE_DIRECTORY)
        assert len(result) == is_leak(*case), case
        for leak in result:
            assert (leak.kind, leak.slot, leak.target) == ("process", number, (pid, 1, zombie))
            assert str(pid) in leak.identity and leak.age_s == 5.0, case


@each_case(("number", "session"), list(itertools.product(NUMBERS[:5], ("", "a session"))))
def test_slot_directory_is_a_leak_when_it_is_not_leased_and_names_no_session(
    number: int, session: str
) -> None:
    result = judged(directories=[SlotDirectory(number, session, 1.0)])
    assert bool(result) == (number in (FREE, ADOPTABLE) and not session)
    if result:
        assert (result[0].kind, result[0].slot) == ("directory", number)


@each_case(
    ("name", "expected"),
    [
        (f"{LEASED}.1", False), (f"{LEASED}.3", True), (f"{EMPTYING}.3", False),
        (f"{FREE}.1", True), (f"{FREE}.9", False), (f"{BEYOND}.1", True), ("daemon", False),
        ("somebody's", False), ("3.1.scope", False), ("3.x", False), (f"{ADOPTABLE}.1", False),
        (f"slot-{LEASED}", False), (f"slot-{EMPTYING}", False), (f"slot-{FREE}", True),
        (f"slot-{ADOPTABLE}", False), ("slot-x", False),
    ],
)  # fmt: skip
def test_cgroup_is_a_leak_when_the_warden_does_not_know_its_run(name: str, expected: bool) -> None:
    result = judged(groups={name: 2.0}, directories=ADOPTABLE_DIRECTORY)
    assert [(leak.kind, leak.target) for leak in result] == [("cgroup", (name,))] * expected


@each_case(
    ("image", "session", "expected"),
    [
        (f"/slots/{LEASED}/image", "", False), (f"/slots/{EMPTYING}/image", "", False),
        (f"/slots/{FREE}/image", "", True), (f"/slots/{FREE}/image", "a session", False),
        (f"/folders/{UUID}/image", "", False), ("/folders/another/image", "", True),
    ],
)  # fmt: skip
def test_loop_device_is_a_leak_when_its_image_is_mounted_for_no_session(
    image: str, session: str, expected: bool
) -> None:
    directories = [SlotDirectory(FREE, session, 1.0)] if session else []
    result = judged(directories=directories, loops=[Loop("/dev/loop7", image)])
    assert bool(result) == expected


def test_loop_device_of_a_folder_is_no_leak_while_a_file_helper_works() -> None:
    expected = Expected(FIRST, COUNT, folders=None)
    assert not judged(expected, loops=[Loop("/dev/loop7", "/folders/another/image")])
    assert judged(expected, loops=[Loop("/dev/loop7", f"/slots/{FREE}/image")])


@each_case(("kind", "number"), list(itertools.product(("shm", "sem", "msg"), NUMBERS)))
def test_system_v_object_of_a_slots_uid_outside_of_runs_is_a_leak(kind: str, number: int) -> None:
    item = Object(kind, 42, FIRST + number, 3.0)  # type: ignore[arg-type]  # one of Kind
    result = judged(objects=[item], directories=ADOPTABLE_DIRECTORY)
    assert bool(result) == (number in (LEASED, FREE))
    if result:
        assert (result[0].kind, result[0].slot, result[0].target) == (kind, number, (42,))


@pytest.mark.parametrize("age", [0.0, STALE_S - 1, STALE_S, 1e9])
def test_half_made_image_is_a_leak_when_it_is_old(age: float) -> None:
    result = judged(temporaries=[Temporary("/blank/1-2.ext4.new", age)])
    assert bool(result) == (age >= STALE_S)


def test_empty_survey_has_no_leaks() -> None:
    assert judged() == [] and judged(Expected(FIRST, COUNT)) == []
