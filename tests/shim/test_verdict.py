"""The verdict on a step: the whole table of causes, and their order."""

from __future__ import annotations

import signal
from dataclasses import fields, replace
from typing import Any

import hypothesis
from hypothesis import strategies as st

from sandboxd.config.settings import STEP_LIMITS
from sandboxd.jail.cgroup import Counters
from sandboxd.model import Change, Limits, Usage
from sandboxd.shim.facts import StepFacts, StorageUse, exit_code
from sandboxd.shim.verdict import judge

from ..each_case import each_case

ENDING = sorted({f.name for f in fields(Limits)} - {"output_end", "stack"})
"""Limits as verdicts name them: `output_end` is "output" there, and the stack ends no step."""

OOM = Counters(oom_kills=1)
REFUSED = Counters(pids_refused=3)
OK, FAILED, KILLED, SEGV, XFSZ = 0, 1 << 8, signal.SIGKILL, signal.SIGSEGV, signal.SIGXFSZ
NO_SPACE = "cc: error writing to a.out: No space left on device\n"
DESCRIPTORS = "OSError: [Errno 24] Too many open files: 'x'\n"
NOTHING_TO_EXECUTE = 'sandboxd: exec "*" looked for main.py in /home/work and found none\n'
TOO_LARGE = "OSError: [Errno 27] File too large\n"

SMALL = replace(STEP_LIMITS, memory=256 << 20, output=2048)


def facts(status: int | None = OK, **more: Any) -> StepFacts:
    return StepFacts(**{"limits": STEP_LIMITS, "status": status} | more)


def test_exit_codes_are_those_of_a_shell() -> None:
    assert [exit_code(s) for s in (OK, FAILED, KILLED, SEGV)] == [0, 1, 137, 139]


@each_case(
    ("known", "outcome", "limit", "sent_by"),
    [
        (facts(OK), "success", None, None),
        (facts(FAILED), "failure", None, None),
        (facts(SEGV), "signal", None, "kernel"),
        (facts(KILLED), "signal", None, "program"),
        (facts(signal.SIGTERM), "signal", None, "program"),
        (facts(signal.SIGINT, external_signals={2: "client"}), "signal", None, "client"),
        (facts(signal.SIGTERM, external_signals={2: "client"}), "signal", None, "program"),
        (facts(None, ended_by="wall_s"), "limit", "wall_s", "sandboxd"),
        (facts(None, ended_by="cpu_s", after=OOM), "limit", "cpu_s", "sandboxd"),
        (facts(KILLED, ended_by="disk", full="disk"), "limit", "disk", "sandboxd"),
        (facts(KILLED, after=OOM), "limit", "memory", "kernel"),
        (facts(FAILED, after=OOM), "limit", "memory", None),
        (facts(OK, after=OOM), "success", None, None),
        (facts(None, after=OOM), "limit", "memory", None),
        (facts(None), "fault", None, None),
        (facts(None, killed_by="client", after=OOM), "signal", None, "client"),
        (facts(None, killed_by="sandboxd"), "signal", None, "sandboxd"),
        (facts(signal.SIGTERM, external_signals={15: "sandboxd"}), "signal", None, "sandboxd"),
        (facts(FAILED, after=REFUSED, full="disk"), "limit", "pids", None),
        (facts(OK, after=REFUSED), "success", None, None),
        (facts(signal.SIGKILL, ended_by="output"), "limit", "output", "sandboxd"),
        (facts(XFSZ), "limit", "fsize", "kernel"),
        (facts((128 + XFSZ) << 8), "failure", None, None),
        (facts(FAILED, full="disk"), "limit", "disk", None),
        (facts(FAILED, full="inodes"), "limit", "inodes", None),
        (facts(FAILED, full="shm"), "limit", "shm", None),
        (facts(FAILED, full="folder data"), "limit", "disk", None),
        (facts(OK, full="disk"), "success", None, None),
        (facts(FAILED, last_output=NO_SPACE), "failure", "disk", None),
        (facts(FAILED, last_output=DESCRIPTORS), "failure", "nofile", None),
        (facts(FAILED, last_output=TOO_LARGE), "failure", "fsize", None),
        (facts(OK, last_output=NO_SPACE), "success", None, None),
        (facts(OK, excess=5), "success", "output", None),
        (facts(FAILED, excess=5), "failure", "output", None),
        (facts(SEGV, excess=5), "signal", "output", "kernel"),
    ],
)
def test_causes_in_their_order(
    known: StepFacts, outcome: str, limit: str | None, sent_by: str | None
) -> None:
    verdict = judge(known)
    assert (verdict.outcome, verdict.limit, verdict.sent_by) == (outcome, limit, sent_by)
    if limit or outcome not in ("success", "failure"):
        assert verdict.advice


@hypothesis.given(
    st.builds(
        StepFacts,
        limits=st.just(STEP_LIMITS),
        status=st.none() | st.integers(0, 64) | st.integers(0, 255).map(lambda code: code << 8),
        ended_by=st.none() | st.sampled_from(ENDING),
        after=st.sampled_from([Counters(), OOM, REFUSED]),
        full=st.sampled_from([None, "disk", "inodes", "shm", "folder x"]),
        denied=st.just({"mount": 2}),
        last_denied=st.sampled_from([None, "mount"]),
        last_output=st.sampled_from(["", NO_SPACE, DESCRIPTORS, TOO_LARGE]),
        excess=st.sampled_from([0, 7]),
    ).filter(lambda f: f.ended_by not in ("cpus", "grace_s"))
)
def test_every_verdict_is_complete(known: StepFacts) -> None:
    verdict = judge(known)
    assert (verdict.outcome == "success") <= (known.exit == 0)
    assert (verdict.outcome == "limit") <= bool(verdict.limit)
    assert (verdict.sent_by is None) <= (verdict.signal is None)
    assert "\n" not in verdict.advice and len(verdict.advice) < 300


def test_verdict_of_a_killed_program_names_its_signal() -> None:
    assert judge(facts(SEGV)).signal == "SIGSEGV"
    assert judge(facts(40)).signal == "SIGRTMIN+6"


@each_case(
    ("known", "words"),
    [
        (facts(KILLED, after=OOM, limits=SMALL, usage=Usage(pids_peak=14)),
         "memory limit of 256 MiB reached by up to 14 processes; ask for more with limits.mem"),
        (facts(127 << 8), "not found"),
        (facts(127 << 8, last_output=NOTHING_TO_EXECUTE),
         'exec "*" looked for main.py in /home/work and found none; upload one, or name a command '
         "with options.exec"),
        (facts(FAILED, ended_by="wall_s", last_output="getaddrinfo EAI_AGAIN packages.example"),
         "or a wait that never ends; this sandbox has no network"),
        (facts(126 << 8), "chmod +x"),
        (facts(139 << 8), "died of SIGSEGV"),
        (facts((128 + XFSZ) << 8), "died of SIGXFSZ: a file reached the limit for one file"),
        (facts(signal.SIGSYS), "32-bit"),
        (facts(FAILED, denied={"mount": 2, "bpf": 1}, last_denied="bpf"),
         "the system call bpf (and mount) 3 times"),
        (facts(SEGV, denied={"ptrace": 1}, last_denied="ptrace"), "ptrace once"),
        (facts(FAILED, denied={"mkdirat": 2}, last_denied="mkdirat"), "2 times: in a session with"),
        (facts(FAILED, full="folder data"), "folder data is full"),
        (facts(OK, excess=7, limits=SMALL), "output limit of 2 KiB reached: 7 bytes"),
        (facts(OK, after=OOM), "want of memory"),
        (facts(OK, host_full=True), "files that the step wrote may be lost"),
        (facts(FAILED, ended_by="wall_s", unwritten=7), "7 bytes of output are lost"),
    ],
)  # fmt: skip
def test_advice_says_what_can_be_done(known: StepFacts, words: str) -> None:
    assert words in judge(known).advice


UNRESOLVED = {
    "curl": "curl: (6) Could not resolve host: example.com",
    "git over ssh": """\
ssh: Could not resolve hostname example.com: Temporary failure in name resolution
fatal: Could not read from remote repository.

Please make sure you have the correct access rights
and the repository exists.
""",
    "wget": "wget: unable to resolve host address 'example.com'",
    "python": """\
  File "/usr/lib/python3.11/urllib/request.py", line 1351, in do_open
    raise URLError(err)
urllib.error.URLError: <urlopen error [Errno -3] Temporary failure in name resolution>
""",
    "python, another errno": "socket.gaierror: [Errno -2] Name or service not known",
    "pip": """\
WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(': Failed to \
establish a new connection: [Errno -3] Temporary failure in name resolution')': /simple/x/
ERROR: Could not find a version that satisfies the requirement x (from versions: none)
ERROR: No matching distribution found for x
""",
    "node": """\
Error: getaddrinfo EAI_AGAIN example.com
    at GetAddrInfoReqWrap.onlookupall [as oncomplete] (node:dns:122:26) {
  errno: -3001,
  code: 'EAI_AGAIN',
}

Node.js v20.20.2
""",
    "node, fetch": """\
TypeError: fetch failed
    at node:internal/deps/undici/undici:13510:13 {
  [cause]: Error: getaddrinfo ENOTFOUND example.com
}

Node.js v20.20.2
""",
    "npm": """\
npm error code EAI_AGAIN
npm error syscall getaddrinfo
npm error errno EAI_AGAIN
npm error A complete log of this run can be found in: /home/work/.npm/_logs/debug-0.log
""",
    "go": """\
2026/11/29 15:38:18 Get "http://example.com": dial tcp: lookup example.com on [::1]:53: read udp \
[::1]:40000->[::1]:53: read: connection refused
exit status 1
""",
    "go, a resolver of its own": "dial tcp: lookup example.com: no such host",
    "java": 'Exception in thread "main" java.net.UnknownHostException: example.com\n'
    + "\tat java.base/sun.nio.ch.NioSocketImpl.connect(NioSocketImpl.java:567)\n" * 20,
    "maven": """\
[ERROR] Plugin x could not be resolved: repo.maven.apache.org: Name or service not known
[ERROR]
[ERROR] To see the full stack trace of the errors, re-run Maven with the -e switch.
[ERROR] Re-run Maven using the -X switch to enable full debug logging.
[ERROR]
[ERROR] For more information about the errors and possible solutions, please read:
[ERROR] [Help 1] http://cwiki.apache.org/confluence/PluginResolutionException
""",
    "perl": "IO::Socket::INET: Bad hostname 'example.com:80' at -e line 1.",
    "ruby": "socket.rb:227:in `getaddrinfo': getaddrinfo: Temporary failure in name resolution "
    "(SocketError)\n" + "\tfrom /usr/lib/ruby/3.1.0/net/http.rb:998:in `connect'\n" * 9,
    "apt": "E: Failed to fetch http://x/y  Temporary failure resolving 'packages.example'",
    "rust": "error: failed to lookup address information: Name or service not known",
    "cargo": """\
error: download of config.json failed

Caused by:
  [6] Could not resolve hostname (Could not resolve host: index.crates.io)
""",
    "musl": "nc: bad address: Name does not resolve",
    "ssh": "ssh: Could not resolve hostname example.com: Name or service not known",
    "an address": "connect: Network is unreachable",
}


@each_case("tool", UNRESOLVED)
def test_program_whose_last_words_are_of_a_name_is_advised_that_there_is_no_network(
    tool: str,
) -> None:
    assert judge(facts(FAILED, last_output=UNRESOLVED[tool])).advice.startswith(
        "this sandbox has no network"
    )


@each_case(
    "output",
    [
        UNRESOLVED["curl"] + "\n" + "".join(f"then test {n} failed\n" for n in range(9)),
        "ConnectionRefusedError: [Errno 111] Connection refused",
        "the host name is unknown here", "Host key verification failed: unknown host key", "",
    ],
)  # fmt: skip
def test_program_whose_last_words_are_of_something_else_is_not_advised_about_the_network(
    output: str,
) -> None:
    assert judge(facts(FAILED, last_output=output)).advice == ""
    assert judge(facts(OK, last_output=UNRESOLVED["curl"])).advice == ""


def test_plain_failure_needs_no_advice() -> None:
    assert judge(facts(FAILED)).advice == ""
    assert judge(facts(OK, denied={"mount": 1}, last_denied="mount")).advice == ""


def test_counters_are_reported_before_and_after() -> None:
    before, after = Counters(10, 1, 2, 0, 3, 0), Counters(30, 9, 5, 1, 4, 6)
    counters = judge(
        facts(before=before, after=after, stored=StorageUse(7, 8), denied={"mount": 2})
    ).counters
    assert counters == {
        "cpu_us": Change(10, 30), "memory_hits": Change(2, 5), "oom_kills": Change(0, 1),
        "pids_refused": Change(0, 6), "disk_bytes": Change(0, 7), "disk_inodes": Change(0, 8),
        "denied_syscalls": Change(0, 2),
    }  # fmt: skip


def test_a_step_that_was_ended_on_request_died_of_a_signal_and_is_nobodys_fault() -> None:
    verdict = judge(facts(None, killed_by="client", usage=Usage(wall_ms=5)))
    assert (verdict.outcome, verdict.signal, verdict.limit) == ("signal", "SIGKILL", None)
    assert verdict.usage.wall_ms == 5 and verdict.advice
