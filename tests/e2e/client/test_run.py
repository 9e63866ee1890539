"""`backend.ai run` in batch mode, as a user types it. The tests look at its output only."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ...waiting import PATIENCE_S
from .conftest import Client

MAIN = """\
#include <stdio.h>
#include "lib/words.h"
int main(void) { printf("%s", word()); fprintf(stderr, "to stderr\\n"); return 7; }
"""


@pytest.fixture(scope="module")
def project(client: Client) -> Path:
    """A project with files in sub-directories."""
    folder = client.folder / "project"
    for name, text in {
        "main.c": MAIN,
        "lib/words.h": "const char *word(void);\n",
        "lib/deep/words.c": 'const char *word(void) { return "한글 word\\n"; }\n',
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def name(request: pytest.FixtureRequest, client: Client) -> Iterator[str]:
    """A name for a session, which is removed afterwards."""
    name = request.node.originalname[5:45].rstrip("_")
    yield name
    client("rm", name)


FILES = ("main.c", "lib/words.h", "lib/deep/words.c")
BUILD = ("--build", "gcc -o main main.c lib/deep/words.c")


def test_several_files_are_built_and_run(client: Client, project: Path, name: str) -> None:
    printed = client("run", "-t", name, "--clean", "rm -f main", *BUILD, "--exec", "./main",
                     "gcc:latest", *FILES, cwd=project)  # fmt: skip
    assert printed.out == "한글 word\n", printed
    assert "to stderr\n" in printed.err
    assert "Clean finished. (exit code = 0" in printed.err
    assert "Build finished. (exit code = 0)" in printed.err
    assert "Execution finished. (exit code = 7)" in printed.err


def test_defaults_build_and_run_what_is_there(client: Client, project: Path, name: str) -> None:
    printed = client("run", "-t", name, "gcc:latest", *FILES, cwd=project)
    assert printed.out == "한글 word\n", printed
    assert "Execution finished. (exit code = 7)" in printed.err


def test_second_run_reuses_session_and_files(client: Client, project: Path, name: str) -> None:
    first = ("--build", "true", "--exec", "echo first > kept")
    client("run", "-t", name, *first, "gcc:latest", "main.c", cwd=project)
    printed = client("run", "-t", name, "--build", "true", "--exec", "cat kept", "gcc:latest",
                     "main.c", cwd=project)  # fmt: skip
    assert printed.out == "first\n" and "Reusing" in printed.err, printed


def test_rm_removes_the_session_and_tells_its_use(client: Client, project: Path) -> None:
    printed = client("run", "-t", "passing", "--rm", "-s", "--build", "true", "--exec", "echo x",
                     "gcc:latest", "main.c", cwd=project)  # fmt: skip
    assert "x\n" in printed.out and "Cleaned up the session" in printed.err, printed
    assert "cpu_used_msec" in printed.text
    assert "passing" not in client("ps").out


def test_failed_build_runs_nothing(client: Client, project: Path, name: str) -> None:
    printed = client("run", "-t", name, "--build", "gcc nowhere.c", "--exec", "echo never",
                     "gcc:latest", "main.c", cwd=project)  # fmt: skip
    assert printed.out == "" and "nowhere.c" in printed.err
    assert "Build finished. (exit code = 1)" in printed.err
    assert "Execution finished. (exit code = 127)" in printed.err


def test_program_that_asks_is_answered(client: Client, project: Path, name: str) -> None:
    command = "read -p 'name? ' a; read b; echo $$a and $$b"
    printed = client("run", "-t", name, "--build", "true", "--exec", command, "gcc:latest",
                     "main.c", cwd=project, input="Ada\nBob\n")  # fmt: skip
    assert "Ada and Bob\n" in printed.out, printed
    assert "Execution finished. (exit code = 0)" in printed.err


def test_ten_megabytes_of_build_output_arrive_whole(
    client: Client, project: Path, name: str
) -> None:
    build = "seq -f '%099.0f' 100000"
    printed = client("run", "-q", "-t", name, "--build", build, "--exec", "echo end",
                     "gcc:latest", "main.c", cwd=project)  # fmt: skip
    lines = printed.out.splitlines()
    assert len(lines) == 100_001 and lines[-1] == "end"
    assert lines[0] == "1".zfill(99) and lines[-2] == "100000".zfill(99)


def test_output_of_a_client_run_comes_while_the_program_runs(
    client: Client, project: Path, name: str
) -> None:
    client("session", "create", "-t", name, "gcc:latest")
    command = "for i in 1 2 3; do echo line $$i; sleep 1; done"
    process = client.begin("run", "-q", "-t", name, "--build", "true", "--exec", command,
                           "gcc:latest", str(project / "main.c"))  # fmt: skip
    times: list[float] = []

    def read() -> None:
        assert process.stdout
        while line := process.stdout.readline():
            if line.startswith("line"):
                times.append(time.monotonic())

    reader = threading.Thread(target=read)
    reader.start()
    process.wait(PATIENCE_S)
    reader.join()
    for pipe in (process.stdin, process.stdout, process.stderr):
        assert pipe
        pipe.close()
    assert len(times) == 3
    assert times[1] - times[0] > 0.5 and times[2] - times[1] > 0.5


def test_client_that_is_killed_takes_its_run_with_it(
    client: Client, project: Path, name: str
) -> None:
    command = "echo began; trap '' INT; sleep 600"
    process = client.begin("run", "-t", name, "--build", "true", "--exec", command, "gcc:latest",
                           str(project / "main.c"))  # fmt: skip
    assert process.stdout
    while "began" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    printed = client("run", "-q", "-t", name, "--build", "true", "--exec", "echo next",
                     "gcc:latest", "main.c", cwd=project)  # fmt: skip
    assert "next\n" in printed.out, printed


def test_query_mode_is_reported_as_missing(client: Client, project: Path, name: str) -> None:
    printed = client("run", "-t", name, "-c", "print(1)", "python:3", cwd=project)
    assert "Code snippets (mode query) are not offered" in printed.out, printed
    assert client("session", "ls", name).status == 0


def test_run_without_options_keeps_what_the_run_before_has_made(
    client: Client, project: Path, name: str
) -> None:
    """The client sends "*" for clean, too, although its user has asked for no clean."""
    (project / "Makefile").write_text(
        "main:\n\tgcc -o main main.c lib/deep/words.c\nclean:\n\trm -f main result\n"
    )
    try:
        files = ("Makefile", *FILES)
        client("run", "-t", name, "--build", "make", "--exec", "echo precious > result",
               "gcc:latest", *files, cwd=project)  # fmt: skip
        printed = client("run", "-t", name, "gcc:latest", *files, cwd=project)
        assert printed.out.endswith("한글 word\n"), printed
        assert "Clean finished. (exit code = 0" in printed.err
        last = client("run", "-t", name, "--build", "true", "--exec", "cat result", "gcc:latest",
                      "main.c", cwd=project)  # fmt: skip
        assert last.out == "precious\n", last
    finally:
        (project / "Makefile").unlink()


def test_advice_names_the_option_of_the_client(client: Client, project: Path, name: str) -> None:
    printed = client("run", "-t", name, "--resource-opts", "wall_s=0.5", "--build", "true",
                     "--exec", "sleep 60", "gcc:latest", "main.c", cwd=project)  # fmt: skip
    words = "ask for more with --resource-opts wall_s=SECONDS in a new session"
    assert words in " ".join(printed.text.split()), printed
