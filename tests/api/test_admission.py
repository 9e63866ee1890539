"""Admission: reservations that are never lost; runs and sessions that wait or are refused."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from sandboxd.api.admission.admission import NOTICE_S, Admission, Bounds, Reservations
from sandboxd.api.admission.capacity import HostCapacity
from sandboxd.api.admission.fair_queue import Amount
from sandboxd.config.settings import Config
from sandboxd.errors import Draining, Full, Invalid, QuotaExceeded
from sandboxd.host.tasks import TaskMeter

from ..effort import examples
from ..waiting import PATIENCE_S, until
from .bad_requests import assert_problem
from .conftest import Server

Start = Callable[..., Server]


def reservations(count: int = 1, owner: int = 10) -> Reservations:
    return Reservations("run", "memory", Bounds(Amount(count, 100), Amount(owner, 100)))


ONE = Amount(1, 1)


def test_task_cancelled_while_it_waits_reserves_nothing() -> None:
    async def scenario() -> None:
        here = reservations()
        assert await here.reserve_in_turn("a", "ann", ONE)
        waiting = asyncio.create_task(here.reserve_in_turn("b", "ann", ONE))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        here.release("a")
        assert await here.reserve_in_turn("c", "ann", ONE)

    asyncio.run(scenario())


def test_task_cancelled_at_the_moment_of_its_turn_passes_it_on() -> None:
    async def scenario() -> None:
        here = reservations()
        await here.reserve_in_turn("a", "ann", ONE)
        second, third = (asyncio.create_task(here.reserve_in_turn(key, "ann", ONE)) for key in "bc")
        await asyncio.sleep(0)
        here.release("a")  # it is b's now, who does not know yet
        second.cancel()
        assert await asyncio.wait_for(third, PATIENCE_S)

    asyncio.run(scenario())


def test_withdrawn_wait_ends_and_the_next_is_granted() -> None:
    async def scenario() -> None:
        here = reservations()
        await here.reserve_in_turn("a", "ann", ONE)
        second, third = (asyncio.create_task(here.reserve_in_turn(key, "ann", ONE)) for key in "bc")
        await asyncio.sleep(0)
        here.withdraw("b")
        assert not await second
        here.release("a")
        assert await asyncio.wait_for(third, PATIENCE_S)

    asyncio.run(scenario())


def test_reservation_that_is_not_possible_at_once_says_why() -> None:
    async def scenario() -> None:
        here = reservations(2, 1)
        here.reserve("a", "ann", ONE)
        with pytest.raises(QuotaExceeded, match="one owner may have at most 1 runs"):
            here.reserve("b", "ann", ONE)
        here.reserve("c", "ben", ONE)
        with pytest.raises(Full, match="this host takes on at most 2 runs"):
            here.reserve("d", "cem", ONE)
        here.pause("drain")
        with pytest.raises(Draining):
            here.reserve("e", "cem", ONE)
        assert here.queue.used.count == 2 and not here.queue.queued

    asyncio.run(scenario())


def test_bound_on_tasks_that_was_raised_since_it_was_measured_refuses_nothing(
    tmp_path: Path,
) -> None:
    bound = tmp_path / "pids.max"
    bound.write_text("2\n")
    (tmp_path / "pids.current").write_text("1\n")
    capacity = HostCapacity(str(tmp_path), TaskMeter([str(tmp_path)]))
    admission = Admission(Config(), capacity)
    for text, error in (("1\n", Full), ("50\n", Invalid)):  # with the first, no limit would do
        bound.write_text(text)
        with pytest.raises(error):
            admission.check_pids(64, "pids")
    bound.write_text("3000\n")
    admission.check_pids(64, "pids")
    assert admission.runs.queue.total.tasks > 64


@hypothesis.given(st.integers(0, 2**32), st.integers(1, 3))
@settings(max_examples=examples(40))
def test_no_wakeup_is_lost_for_any_order_of_cancels_and_withdrawals(seed: int, count: int) -> None:
    chance = random.Random(seed)

    async def work(here: Reservations, key: int, has: set[int]) -> None:
        try:
            if await here.reserve_in_turn(key, str(key % 3), ONE):
                has.add(key)
                assert len(has) <= count
                await asyncio.sleep(0)
        finally:
            has.discard(key)
            here.release(key)

    async def scenario() -> None:
        here, has = reservations(count), set[int]()
        tasks = [asyncio.create_task(work(here, key, has)) for key in range(30)]
        for _ in range(30):
            match chance.randrange(4):
                case 0:
                    chance.choice(tasks).cancel()
                case 1:
                    here.withdraw(chance.randrange(30))
                case 2:
                    (here.pause if chance.random() < 0.5 else here.resume)("drain")
            await asyncio.sleep(0)
        here.resume("drain")
        async with asyncio.timeout(PATIENCE_S):
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                assert result is None or isinstance(result, asyncio.CancelledError), result
        assert here.queue.used == Amount() and not here.queue.queued

    asyncio.run(scenario())


# -- over HTTP


def create(http: httpx.Client, **more: Any) -> str:
    answer = http.post("/session", json={"image": "c"} | more)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["sessionId"])


def call(http: httpx.Client, id: str, mode: str, run: str, **options: Any) -> dict[str, Any]:
    body = {"mode": mode, "runId": run, "options": options}
    answer = http.post(f"/session/{id}", json=body)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()["result"]
    return result


def accepted(http: httpx.Client, id: str) -> int:
    """How many runs the session has accepted."""
    runs = http.get(f"/session/{id}").json()["sandbox"]["runs"]
    return int(runs["begun"]) + int(runs["queued"])


def begin(http: httpx.Client, id: str, run: str, **options: Any) -> None:
    """The first call of a run, whose answer is not waited for; the run is accepted then."""
    before = accepted(http, id)
    with contextlib.suppress(httpx.ReadTimeout):
        body = {"mode": "batch", "runId": run, "options": options}
        assert http.post(f"/session/{id}", json=body, timeout=0.1).status_code == 200
    until(lambda: accepted(http, id) > before)


def to_end(http: httpx.Client, id: str, run: str) -> dict[str, Any]:
    while True:
        result = call(http, id, "continue", run)
        if result["status"] in ("finished", "exec-timeout"):
            return result


ONE_RUN = {"admission": {"runs": 1}}
BUSY = "sleep 60"


def test_run_of_another_session_waits_with_position_and_reason(start: Start) -> None:
    http = start(ONE_RUN).client
    first, second, third = (create(http) for _ in range(3))
    call(http, first, "batch", "a", exec=BUSY)
    waits = call(http, second, "batch", "b", exec="out b")
    assert (waits["status"], waits["console"]) == ("continued", [])
    reason = "this host takes on at most 1 runs at once"
    assert waits["queue"] == {"position": 1, "reason": reason}
    assert call(http, third, "batch", "c", exec="out c")["queue"]["position"] == 2
    behind = call(http, third, "batch", "d", exec="out d")["queue"]
    assert behind == {"position": 3, "reason": "other runs of this session come first"}
    http.post(f"/session/{first}/interrupt")
    assert to_end(http, second, "b")["exitCode"] == 0
    last = to_end(http, third, "c")
    assert "queue" not in last and ["stdout", "c\n"] in last["console"]


def test_run_that_waited_has_a_notice_of_how_long(start: Start) -> None:
    http = start(ONE_RUN).client
    first, second = (create(http) for _ in range(2))
    call(http, first, "batch", "a", exec="await go")
    began = time.monotonic()
    while time.monotonic() < began + 2 * NOTICE_S:
        result = call(http, second, "batch", "b", exec="out b")
    http.post(f"/session/{first}/upload", files={"src": ("go", b"")}).raise_for_status()
    messages: list[Any] = []
    while result["status"] != "finished":
        result = call(http, second, "continue", "b")
        messages += [data for kind, data in result["console"] if kind == "log"]
    assert [(text[0], text[3][:20]) for text in messages] == [("info", "this run has waited ")]


def test_reserved_memory_is_not_reserved_again(start: Start) -> None:
    limits = {"exec": {"mem": "4g"}}
    with open("/proc/meminfo") as file:
        total = int(file.readline().split()[1]) * 1024
    http = start({"admission": {"memory": 6 * 2**30 / total, "owner": {"memory": 1.0}}}).client
    first, second, third = (create(http) for _ in range(3))
    call(http, first, "batch", "a", exec=BUSY, limits=limits)
    waits = call(http, second, "batch", "b", exec="out b", limits=limits)
    assert waits["queue"]["position"] == 1
    assert waits["queue"]["reason"].startswith("this host promises 6.0 GiB of memory, of which 2.0")
    small = call(http, third, "batch", "c", exec="out c", limits={"exec": {"mem": "1g"}})
    assert small["queue"] == {"position": 2, "reason": "other runs come first"}
    http.post(f"/session/{first}/interrupt")
    assert to_end(http, second, "b")["exitCode"] == to_end(http, third, "c")["exitCode"] == 0


def test_waiting_run_that_was_interrupted_is_not_begun_by_the_next_daemon(start: Start) -> None:
    server = start(ONE_RUN)
    first, second = (create(server.client) for _ in range(2))
    call(server.client, first, "batch", "a", exec=BUSY)
    call(server.client, second, "batch", "b", exec="out never")
    assert server.client.post(f"/session/{second}/interrupt").status_code == 204
    server.process.kill()
    server.process.wait()
    http = start(ONE_RUN).client
    http.post(f"/session/{first}/interrupt")
    assert http.get(f"/session/{second}").json()["sandbox"]["runs"]["active"] is None


@pytest.mark.parametrize("how", ["interrupt", "delete", "restart"])
def test_waiting_run_that_is_ended_leaves_the_queue(start: Start, how: str) -> None:
    http = start(ONE_RUN).client
    first, second, third = (create(http) for _ in range(3))
    call(http, first, "batch", "a", exec=BUSY)
    call(http, second, "batch", "b", exec="out never\ntouch never")
    assert call(http, third, "batch", "c", exec="out c")["queue"]["position"] == 2
    if how == "interrupt":
        assert http.post(f"/session/{second}/interrupt").status_code == 204
        result = call(http, second, "continue", "b")
        assert (result["status"], result["exitCode"]) == ("finished", 130)
        assert call(http, second, "continue", "b")["exitCode"] == 130, "it stays so"
    elif how == "delete":
        assert http.delete(f"/session/{second}").status_code == 200
    else:
        assert http.patch(f"/session/{second}").status_code == 204
    assert call(http, third, "continue", "c")["queue"]["position"] == 1
    http.delete(f"/session/{first}")
    assert to_end(http, third, "c")["console"][-1] == ["stdout", "c\n"]
    if how != "delete":
        assert "never" not in http.get(f"/session/{second}/files").json()["files"]
        assert http.delete(f"/session/{second}").json()["stats"]["runs"] == 0


def test_flood_of_one_owner_does_not_starve_another(start: Start) -> None:
    server = start(ONE_RUN)
    ann, ben = (server.signed(server.keypair()) for _ in range(2))
    floods = [create(ann) for _ in range(8)]
    for number in range(40):
        begin(ann, floods[number % 8], str(number), exec="sleep 0.4")
    id = create(ben)
    result = call(ben, id, "batch", "mine", exec="out mine")
    while result["status"] != "finished":
        assert result.get("queue", {"position": 1})["position"] <= 2
        result = call(ben, id, "continue", "mine")


def test_owner_with_too_many_waiting_runs_is_refused_more(start: Start) -> None:
    http = start({"admission": {"runs": 1, "owner": {"waiting": 3}}}).client
    id = create(http)
    for number in range(4):
        begin(http, id, str(number), exec=BUSY)
    body = {"mode": "batch", "runId": "4", "options": {"exec": BUSY}}
    refused = http.post(f"/session/{id}", json=body)
    assert_problem(refused, 429, "/rate-limit-exceeded")
    assert int(refused.headers["retry-after"]) > 0
    assert call(http, id, "batch", "3", exec=BUSY)["status"] == "continued", "it is known already"


def test_owner_at_the_bound_of_sessions_is_refused_and_another_is_not(start: Start) -> None:
    server = start({"admission": {"owner": {"sessions": 2}}})
    ann, ben = (server.signed(server.keypair()) for _ in range(2))
    ids = [create(ann) for _ in range(2)]
    refused = ann.post("/session", json={"image": "c"})
    assert_problem(refused, 412, "/quota-exceeded")
    assert "2 sessions" in refused.json()["msg"]
    create(ben)
    ann.delete(f"/session/{ids[0]}")
    create(ann)


def test_session_beyond_the_slots_is_refused_with_a_time_to_come_back(start: Start) -> None:
    server = start({"slots": {"count": 1}})
    create(server.client)
    refused = server.client.post("/session", json={"image": "c"})
    assert_problem(refused, 503, "/instance-not-available")
    assert int(refused.headers["retry-after"]) > 1


def test_reserved_disk_space_is_not_reserved_again(start: Start) -> None:
    server = start({"admission": {"disk": 1e-9, "owner": {"disk": 1.0}}})
    create(server.client)  # the first session gets all the space
    assert_problem(server.client.post("/session", json={"image": "c"}), 503)
    folder = {"name": "data", "quota": "100m"}
    assert_problem(server.client.post("/folders", json=folder), 503)


def test_sessions_of_before_a_restart_count_in_the_bounds(start: Start) -> None:
    tables = {"admission": {"owner": {"sessions": 1}}}
    first = start(tables)
    id = create(first.client)
    assert first.stop() == 0
    http = start(tables).client
    assert_problem(http.post("/session", json={"image": "c"}), 412)
    http.delete(f"/session/{id}")
    create(http)


def test_failed_creation_of_a_session_releases_its_reservation(start: Start) -> None:
    server = start({"admission": {"owner": {"sessions": 1}}})
    server.refuse(lease={"kind": "stage", "stage": "scratch", "error": "no"})
    for _ in range(3):
        assert_problem(server.client.post("/session", json={"image": "c"}), 503)
    server.refuse()
    create(server.client)
