"""Journals of several runs that are read at the same time, as after a restart of the daemon."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

import sandboxd

ROOT = Path(sandboxd.__file__).parent.parent

FIRST_USE = """
import sys, threading
import msgspec

if sys.argv[1] == "unprotected":
    msgspec.json.Decoder = lambda type: None
from sandboxd.runs.journal import parse

VERDICT = {"outcome": "success", "counters": {"cpu_us": {"before": 1, "after": 2}}}
LINE = {"event": "step", "step": "clean", "exit": 0, "console": 0, "verdict": VERDICT}
halfway, over = threading.Event(), threading.Event()
calls = []

def stop_halfway(frame, event, argument):
    if event == "call" and frame.f_code.co_name == "get_dataclass_info":
        calls.append(frame)
        if len(calls) == 2:  # for a field of Verdict: what is made of Verdict is shown already
            halfway.set()
            over.wait(20)

def first():
    sys.setprofile(stop_halfway)
    parse([LINE])
    halfway.set()

thread = threading.Thread(target=first)
thread.start()
halfway.wait(20)
(event,) = parse([LINE])
over.set()
thread.join()
print(event.verdict.outcome, len(calls))
"""


@pytest.mark.parametrize(
    ("how", "code", "printed"),
    [("protected", 0, "success 0\n"), ("unprotected", -signal.SIGSEGV, "")],
    ids=["protected", "unprotected"],
)
def test_two_threads_that_read_the_first_verdicts_at_once_do_not_end_the_api(
    how: str, code: int, printed: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", FIRST_USE, how],
        env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (code, printed), done.stderr
