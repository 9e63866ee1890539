"""The flows of programs that use the official client's SDK; driver.py runs them.

A flow is a function whose name begins with flow_, and gets a session of the API.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ai.backend.client.exceptions import BackendAPIError  # type: ignore[import-not-found]  # in the client's environment
from ai.backend.client.session import Session  # type: ignore[import-not-found]  # in the client's environment

PROGRAM = """\
#include <stdio.h>
#include "sub/names.h"
int main(void) {
    char name[64];
    printf("who? ");
    fflush(stdout);
    if (!fgets(name, sizeof name, stdin)) return 9;
    printf(GREETING " %s", name);
    fprintf(stderr, "to stderr\\n");
    return 7;
}
"""


@contextlib.contextmanager
def new_session(api: Any, image: str = "gcc:latest", **options: Any) -> Iterator[Any]:
    """A session, destroyed at the end."""
    session = api.ComputeSession.get_or_create(image, **options)
    try:
        yield session
    finally:
        with contextlib.suppress(BackendAPIError):
            session.destroy()


def run(session: Any, answers: tuple[str, ...] = (), **options: str) -> list[dict[str, Any]]:
    """A batch run, polled to its end; every result."""
    waiting = list(answers)
    results = [session.execute(None, "", mode="batch", opts=options)]
    while results[-1]["status"] not in ("finished", "exec-timeout"):
        id = results[-1]["runId"]
        if results[-1]["status"] == "waiting-input":
            results.append(session.execute(id, waiting.pop(0), mode="input"))
        else:
            results.append(session.execute(id, "", mode="continue"))
    return results


def text(results: list[dict[str, Any]], kind: str = "stdout") -> str:
    """The text of a stream."""
    return "".join(data for result in results for type_, data in result["console"] if type_ == kind)


def statuses(results: list[dict[str, Any]]) -> list[tuple[str, int | None]]:
    """Statuses with exit codes, without `continued`."""
    return [(r["status"], r["exitCode"]) for r in results if r["status"] != "continued"]


def refused(status: int, act: Any) -> dict[str, Any]:
    """The problem document that `act` is refused with."""
    try:
        act()
    except BackendAPIError as error:
        assert error.status == status, (error.status, error.data)
        problem: dict[str, Any] = error.data
        return problem
    raise AssertionError("it was not refused")


def flow_build_and_run_with_input(api: Any) -> None:
    with new_session(api) as session, tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        (base / "sub").mkdir()
        (base / "main.c").write_text(PROGRAM)
        (base / "sub" / "names.h").write_text('#define GREETING "hello"\n')
        session.upload([base / "main.c", base / "sub" / "names.h"], basedir=base)
        results = run(session, ("world",), build="gcc -o main main.c", exec="./main")
        assert statuses(results) == [
            ("clean-finished", 0), ("build-finished", 0), ("waiting-input", None), ("finished", 7),
        ], results  # fmt: skip
        assert text(results) == "who? hello world\n"
        assert text(results, "stderr") == "to stderr\n"


def flow_default_commands(api: Any) -> None:
    with new_session(api) as session, tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "main.c").write_text('#include <stdio.h>\nint main(){puts("default");}')
        session.upload([Path(folder) / "main.c"], basedir=folder)
        results = run(session, clean="*", build="*", exec="*")
        assert statuses(results)[-1] == ("finished", 0) and text(results) == "default\n", results


def flow_failed_build_ends_the_run(api: Any) -> None:
    with new_session(api) as session:
        results = run(session, build="echo broken >&2; exit 3", exec="echo never")
        assert statuses(results)[1:] == [("build-finished", 3), ("finished", 127)]
        assert text(results, "stderr") == "broken\n" and text(results) == ""


def flow_files_come_and_go(api: Any) -> None:
    with new_session(api) as session, tempfile.TemporaryDirectory() as folder:
        run(
            session,
            exec="mkdir -p out/deep; printf 0123 > out/deep/'a b'; head -c 3000000 /dev/zero > big",
        )
        listed = json.loads(session.list_files("out/deep")["files"])
        assert [(f["filename"], f["size"], f["mode"][:2]) for f in listed] == [("a b", 4, "-r")]
        got = session.download(["out", "big"], dest=folder)
        assert set(got["file_names"]) >= {"out/deep/a b", "big"}, got
        assert (Path(folder) / "big").stat().st_size == 3_000_000
        refused(404, lambda: session.list_files("nowhere"))
        refused(404, lambda: session.download(["nowhere"], dest=folder))
        refused(400, lambda: session.list_files("../.."))
        refused(400, lambda: session.download(["a"] * 6, dest=folder))


def flow_a_session_tells_about_itself(api: Any) -> None:
    with new_session(api, tag="mine", envs={"WORD": "x y"}) as session:
        info = session.get_info()
        assert (info["status"], info["tag"], info["image"]) == ("RUNNING", "mine", "gcc:latest")
        assert info["numQueriesExecuted"] == 1
        assert session.get_info()["numQueriesExecuted"] == 2
        assert text(run(session, exec="echo $WORD")) == "x y\n"
        assert session.get_logs()["result"]["logs"] == "x y\n"
        assert session.complete("impo")["result"]["completions"] == []
        assert session.get_status_history()["result"]["running"]
        assert session.get_info()["sandbox"]["runs"]["begun"] == 1


def flow_interrupt_ends_what_runs(api: Any) -> None:
    with new_session(api) as session:
        first = session.execute("long", "", mode="batch", opts={"exec": "sleep 60"})
        while first["status"] == "clean-finished" or first["status"] == "build-finished":
            first = session.execute("long", "", mode="continue")
        session.interrupt()
        last = session.execute("long", "", mode="continue")
        assert (last["status"], last["exitCode"]) == ("finished", 130), last


def flow_restart_kills_and_keeps_files(api: Any) -> None:
    with new_session(api) as session:
        run(session, exec="echo kept > file")
        session.execute("long", "", mode="batch", opts={"exec": "trap '' INT TERM; sleep 60"})
        results: list[dict[str, Any]] = []

        def wait() -> None:
            with Session() as other:
                poller = other.ComputeSession(session.name)
                while not results or results[-1]["status"] != "finished":
                    results.append(poller.execute("long", "", mode="continue"))

        waiter = threading.Thread(target=wait)
        waiter.start()
        time.sleep(0.5)
        session.restart()
        waiter.join(5)
        assert results[-1]["exitCode"] == 130, results
        assert text(run(session, exec="cat file; ps ax | grep -c '[s]leep 60'")) == "kept\n0\n"


def flow_rename(api: Any) -> None:
    with new_session(api) as session:
        old, name = session.name, f"renamed-{os.getpid()}"
        session.rename(name)
        assert api.ComputeSession(name).get_info()["sessionName"] == name
        refused(404, api.ComputeSession(old).get_info)
        session.name = name


def flow_destroy_tells_what_was_used(api: Any) -> None:
    session = api.ComputeSession.get_or_create("gcc:latest")
    run(session, exec="i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done")
    stats = session.destroy()["stats"]
    assert stats["status"] == "terminated"
    assert stats["cpu_used"] > 50 and stats["mem_max_bytes"] > 0 and stats["runs"] == 1, stats
    assert refused(404, session.destroy)["title"] == "No such session."


def flow_bootstrap_comes_before_the_first_run(api: Any) -> None:
    script = "sleep 0.5\necho ready > /home/work/mark\n"
    with new_session(api, bootstrap_script=script) as session:
        assert text(run(session, exec="cat mark")) == "ready\n"
        assert text(run(session, exec="rm mark; ls")) == ""


def flow_failed_bootstrap_is_reported(api: Any) -> None:
    with new_session(api, bootstrap_script="exit 4") as session:
        results = run(session, exec="echo on")
        (said,) = [data for r in results for kind, data in r["console"] if kind == "log"]
        assert "bootstrap script failed (exit code 4)" in said[3] and text(results) == "on\n"


def flow_batch_session_has_a_result_and_ends(api: Any) -> None:
    for command, result, code in (("echo out; exit 0", "SUCCESS", 0), ("exit 3", "FAILURE", 3)):
        session = api.ComputeSession.get_or_create(
            "gcc:latest", type_="batch", startup_command=command
        )
        query = "query($id: UUID!) { compute_session(id: $id) { status result status_data } }"
        node: dict[str, Any] = {}
        for _ in range(250):
            if node.get("status") == "TERMINATED":
                break
            time.sleep(0.1)
            node = api.Admin.query(query, {"id": str(session.id)})["compute_session"]
        assert node["status"] == "TERMINATED", node
        assert node["result"] == result and json.loads(node["status_data"])["exit_code"] == code
        logs = api.ComputeSession(str(session.id)).get_logs()["result"]["logs"]
        assert logs == ("out\n" if code == 0 else "")


def flow_batch_session_needs_a_command(api: Any) -> None:
    problem = refused(400, lambda: api.ComputeSession.get_or_create("gcc:latest", type_="batch"))
    assert problem["msg"] == "Batch sessions must have a non-empty startup command."


def flow_enqueued_session_is_there(api: Any) -> None:
    with new_session(api, enqueue_only=True, max_wait=10) as session:
        assert session.status == "RUNNING" and session.created
