"""Each attack of the audit succeeds where the layer that stops it is missing; that all fail in a
jail is in tests/e2e/test_selftest.py."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from sandboxd.jail import (
    identity,
    mounts,
    namespaces,
    network,
    rlimits,
    rootfs,
    seccomp,
    syscalls,
)
from sandboxd.jail.cgroup import Group
from sandboxd.jail.mounts import Bind, Mount, Tree
from sandboxd.model import Limits
from sandboxd.selftest import host_view
from sandboxd.selftest.attack import NAMES, Attack, AttackOutcome, Canary, Judgement, judge, source
from sandboxd.selftest.runner import ATTACKS, KINDS, PYTHON
from sandboxd.shim import run as shim_run
from sandboxd.warden.requests import Requests

from ..sandbox import Sandbox, lease

BY_NAME = {attack.name: attack for attack in ATTACKS}
NUMBERS = syscalls.syscall_numbers(NAMES)
PLENTY = 1 << 17
"""More of any of these than an attack takes."""

RAISED = (
    resource.RLIMIT_CORE, resource.RLIMIT_MEMLOCK, resource.RLIMIT_NOFILE,
    resource.RLIMIT_SIGPENDING,
)  # fmt: skip


@pytest.fixture
def canaries(monkeypatch: pytest.MonkeyPatch) -> Iterator[host_view.Canaries]:
    """Below /var/lib: the jail's /tmp is another, whatever is missing."""
    monkeypatch.setattr(tempfile, "tempdir", "/var/lib")
    with contextlib.ExitStack() as stack:
        yield host_view.Canaries(stack)


def carry_out(sandbox: Sandbox, canaries: host_view.Canaries, attack: Attack) -> Judgement:
    """As the audit does, but without API and daemon."""
    list(canaries.touched())
    token = f"token-{time.monotonic_ns()}"
    program = source(attack.program, NUMBERS, canaries.told, canaries.digest, token)
    command = f"exec {PYTHON} -I -c {_quoted(program)}"
    limits: dict[str, Any] = {"wall_s": attack.timeout}
    if "mem" in attack.resources:
        limits["memory"] = int(attack.resources["mem"].rstrip("m")) << 20
    limits |= {name: value for name, value in attack.resources.items() if name != "mem"}
    seen: list[str] = []

    def watch(_: object) -> None:
        if attack.looks:
            threading.Thread(target=look, args=(attack, token, seen), daemon=True).start()

    steps: dict[str, Any] = {"exec": None} | {attack.step: command}
    answers: list[str | None] = ["go\n"] if attack.looks else [None]
    result = sandbox.run(**steps, answers=answers, while_running=watch, **limits)
    verdicts = [e["verdict"] for e in result.events if "verdict" in e]
    verdict: dict[str, Any] = next((v for v in verdicts if v["outcome"] != "skipped"), {})
    seen += canaries.touched()
    codes = [e["exit"] for e in result.events if e.get("step") == attack.step]
    outcome = AttackOutcome(
        result.stdout, result.stderr, codes[0] if codes else None,
        str(verdict.get("outcome")), verdict.get("limit"), tuple(seen),
    )  # fmt: skip
    return judge(attack, outcome)


def look(attack: Attack, token: str, seen: list[str]) -> None:
    """The host's look at a program that waits for its line."""
    deadline = time.monotonic() + 10
    while not (pids := host_view.find(token)) and time.monotonic() < deadline:
        time.sleep(0.001)
    seen += [bad for pid in pids for bad in host_view.look(attack.looks, pid)]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\"'\"'") + "'"


# -- in a jail


def test_names_are_unique_and_kinds_are_those_of_the_requirement() -> None:
    assert len(BY_NAME) == len(ATTACKS) >= 60
    assert set(KINDS) == {
        "files", "processes", "network", "kernel", "exhaustion", "leftovers",
    }  # fmt: skip
    for attack in ATTACKS:
        compile(source(attack.program, NUMBERS, Canary(), "", "token"), attack.name, "exec")


# -- with a layer taken away: what must then be found

Remove = Callable[[pytest.MonkeyPatch], None]


def without_namespace(flag: int) -> Remove:
    def remove(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(namespaces, "_SHIM", namespaces._SHIM & ~flag)
        patch.setattr(namespaces, "verify", lambda outside: None)
        patch.setattr(network, "verify", lambda: None)
        patch.setattr("socket.sethostname", lambda name: None)

    return remove


def without_cgroup_namespace(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(namespaces, "apply_cgroup", lambda: None)
    patch.setattr(namespaces, "verify", lambda outside: None)


def with_a_guest(patch: pytest.MonkeyPatch) -> None:
    system, part = rootfs.system, Bind("/var/lib", "/var/lib", mounts.WRITABLE)
    patch.setattr(rootfs, "system", lambda *a: [*system(*a), part])


def with_part(path: str) -> Remove:
    def remove(patch: pytest.MonkeyPatch) -> None:
        system, part = rootfs.system, Bind(path, path, mounts.READ_ONLY)
        patch.setattr(rootfs, "system", lambda *a: [*system(*a), part])
        patch.setattr(Tree, "verify", lambda *a: None)

    return remove


def together(*removals: Remove) -> Remove:
    def remove(patch: pytest.MonkeyPatch) -> None:
        for one in removals:
            one(patch)

    return remove


def unsealed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Tree, "seal", lambda tree, paths: None)
    patch.setattr(Tree, "verify", lambda tree, sealed: None)


def unmasked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rootfs, "MASKED", ())


def with_all_processes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rootfs, "_proc", lambda: [Mount("/proc", "proc", mounts.NODEV | mounts.NOSUID)])
    patch.setattr(Tree, "verify", lambda tree, sealed: None)


def with_many_terminals(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rootfs, "TERMINALS", 1000)


def with_kernel_memory(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rootfs, "NODES", rootfs.NODES | {"mem": (1, 1)})


def as_root(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(identity, "apply", lambda uid, gid: None)
    patch.setattr(identity, "verify", lambda uid, gid: None)


def keep(option: int) -> Remove:
    def remove(patch: pytest.MonkeyPatch) -> None:
        real = syscalls.prctl

        def prctl(asked: int, arg2: int = 0, arg3: int = 0) -> int:
            return 0 if asked == option else real(asked, arg2, arg3)

        patch.setattr(syscalls, "prctl", prctl)
        patch.setattr(identity, "verify", lambda uid, gid: None)

    return remove


def without_no_new_privs(patch: pytest.MonkeyPatch) -> None:
    keep(syscalls.PR_SET_NO_NEW_PRIVS)(patch)
    patch.setattr(seccomp, "apply", lambda program: os.open("/dev/null", os.O_RDONLY))
    patch.setattr(seccomp, "verify", lambda: None)
    patch.setattr("sandboxd.shim.denied_calls.DeniedCalls.watch", lambda self, selector: None)
    patch.setattr("sandboxd.shim.denied_calls.DeniedCalls.answer", lambda self: False)


def unfiltered(patch: pytest.MonkeyPatch) -> None:
    """A filter that lets all calls pass, where the program sees a filter."""
    allow_all, apply = struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000), seccomp.apply
    patch.setattr(seccomp, "apply", lambda program: apply(allow_all))
    patch.setattr(seccomp, "verify", lambda: None)


def unlimited(patch: pytest.MonkeyPatch) -> None:
    """The limits of processes that a host's root has."""
    patch.setattr(rlimits, "apply", lambda wanted: None)
    patch.setattr(rlimits, "verify", lambda wanted: None)
    for kind in RAISED:
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (hard, hard))
        if hard < PLENTY and hard != resource.RLIM_INFINITY:  # a small machine
            with contextlib.suppress(ValueError):  # without the right to
                resource.setrlimit(kind, (PLENTY, PLENTY))


def without_cgroup(*names: str) -> Remove:
    def remove(patch: pytest.MonkeyPatch) -> None:
        real = Group._write

        def write(group: Group, name: str, value: str) -> None:
            if not name.startswith(names):
                real(group, name, value)

        patch.setattr(Group, "_write", write)
        plan = rlimits.plan

        def planned(limits: Limits) -> dict[int, int]:
            return {k: v for k, v in plan(limits).items() if k != resource.RLIMIT_NPROC}

        patch.setattr(rlimits, "plan", planned)

    return remove


def with_large_shm(patch: pytest.MonkeyPatch) -> None:
    without_cgroup("memory.")(patch)
    session = rootfs.session

    def with_a_gibibyte(uid: int, gid: int, workdir: int, tmp: int, _: int) -> list[mounts.Part]:
        return session(uid, gid, workdir, tmp, 1 << 30)

    patch.setattr(rootfs, "session", with_a_gibibyte)


def spawning(**different: Any) -> Remove:
    """Steps are started otherwise than init does."""

    def remove(patch: pytest.MonkeyPatch) -> None:
        real = os.posix_spawn

        def spawn(*args: Any, **kwargs: Any) -> int:
            if different.get("leak"):
                os.set_inheritable(os.open("/", os.O_RDONLY), True)
            if "setsigdef" in different:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            own = {name: value for name, value in different.items() if name != "leak"}
            return real(*args, **(kwargs | own))

        patch.setattr(os, "posix_spawn", spawn)

    return remove


def with_our_environment(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(shim_run, "_ENVIRON", shim_run._ENVIRON | {"SANDBOXD_SECRET": "x"})


def without_deadline(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("sandboxd.shim.deadlines.Deadlines.wall_reached", lambda self, now: False)


LAYERS: list[tuple[str, Remove, str]] = [
    ("network namespace", without_namespace(syscalls.CLONE_NEWNET), """
        loopback-tcp loopback-udp abstract-socket way-out interfaces namespaces pass-for-lease"""),
    ("pid namespace", without_namespace(syscalls.CLONE_NEWPID), "namespaces"),
    ("pid namespace and hidepid", together(
        without_namespace(syscalls.CLONE_NEWPID), with_all_processes), "see-processes"),
    ("bound on pseudo-terminals", with_many_terminals, "pseudo-terminals"),
    ("ipc namespace", without_namespace(syscalls.CLONE_NEWIPC), "namespaces"),
    ("uts namespace", without_namespace(syscalls.CLONE_NEWUTS), "namespaces"),
    ("cgroup namespace", without_cgroup_namespace, "namespaces cgroup-files"),
    ("empty root", with_a_guest, """
        read-host-file write-host-file mounts-shown build-step"""),
    ("empty root: /sys", with_part("/sys"), "cgroup-files mounts-shown"),
    ("empty root: /run", with_part("/run"), "host-sockets mounts-shown"),
    ("empty root: /root", together(as_root, with_part("/root")), "read-accounts"),
    ("sealed mounts", unsealed, "mounts-shown"),
    ("masked /proc", unmasked, "proc-secrets"),
    ("own /dev", with_kernel_memory, "devices-shown"),
    ("identity", as_root, """
        identity capabilities regain-root seen-from-host no-new-privs securebits build-step
        priority device-nodes kill-init set-user-id"""),
    ("identity and sealed mounts", together(as_root, unsealed), "write-system proc-settings"),
    ("identity and seccomp", together(as_root, unfiltered), """
        mount swap-and-quota watch-files perf reboot clock kernel-log ports userfaultfd
        move-memory raw-sockets network-settings leave-root bpf"""),
    ("bounding set", keep(syscalls.PR_CAPBSET_DROP), "capabilities seen-from-host build-step"),
    ("securebits", keep(syscalls.PR_SET_SECUREBITS), "securebits"),
    ("no_new_privs", without_no_new_privs, "no-new-privs seen-from-host filter-on build-step"),
    ("seccomp", unfiltered, """
        new-mount-api unshare clone-namespaces io-uring keyrings other-architecture
        terminal-injection personality read-other-memory socket-families netlink vsock"""),
    ("rlimits", unlimited, """
        raise-limits core-file file-size queued-signals"""),
    ("memory limit", without_cgroup("memory."), "memory memory-of-many system-v"),
    ("size of /dev/shm", with_large_shm, "shared-memory"),
    ("process limit", without_cgroup("pids.", "memory."), "fork-bomb threads"),
    ("setsid", spawning(setsid=False), "terminal"),
    ("three descriptors", spawning(leak=True), "descriptors leave-root"),
    ("default signals", spawning(setsigdef=()), "signals"),
    ("clean environment", with_our_environment, "environment"),
    ("deadlines", without_deadline, "time stopped-clock"),
]  # fmt: skip
CASES = [
    pytest.param(remove, name, id=f"{layer}: {name}")
    for layer, remove, names in LAYERS
    for name in names.split()
]


@pytest.mark.parametrize(("remove", "name"), CASES)
def test_attack_succeeds_where_the_layer_is_missing(
    sandbox: Sandbox,
    canaries: host_view.Canaries,
    monkeypatch: pytest.MonkeyPatch,
    remove: Remove,
    name: str,
) -> None:
    before = {kind: resource.getrlimit(kind) for kind in RAISED}
    remove(monkeypatch)
    attack = BY_NAME[name]
    if attack.ends == "wall_s":  # it gives up after fifteen seconds
        attack = replace(attack, program=attack.program.replace("15", "2"))
    try:
        assert carry_out(sandbox, canaries, attack).held is False
    finally:
        for kind, limits in before.items():
            resource.setrlimit(kind, limits)


TOO_LOW = "a host's own limit is often below it"
ELSEWHERE = {
    "signal-host": "with the pid namespace the canary cannot be named; as root it would be killed",
    "locked-memory": TOO_LOW,
    "open-files": TOO_LOW,
    "modules": "many kernels have none",
    "dumpable-init": "the change of uid makes init non-dumpable as well",
    "x32": "most kernels have no x32",
    "unknown-calls": "answered by the kernel as well until it knows them",
    "kernel-crypto": "many kernels have none",
    "other-session": "test_files_of_another_session_would_be_found",
    "disk": "test_disk_without_end_would_be_found",
    "inodes": "test_disk_without_end_would_be_found",
    "output": "tests/test_spool.py: what is kept is bounded",
} | {
    attack.name: "test_what_is_left_of_a_session_is_found"
    for attack in ATTACKS
    if attack.kind == "leftovers"
}  # fmt: skip
"""What no case above shows, and why or where else it is shown."""


def test_every_attack_is_shown_to_be_one() -> None:
    shown = {str(case.values[1]) for case in CASES}
    assert shown <= set(BY_NAME)
    assert set(BY_NAME) - shown == set(ELSEWHERE)


def test_files_of_another_session_would_be_found(
    sandbox: Sandbox, canaries: host_view.Canaries
) -> None:
    attack = BY_NAME["other-session"]
    before = replace(attack, program=attack.before, looks="nothing")
    assert carry_out(sandbox, canaries, before).held
    assert carry_out(sandbox, canaries, attack).held is False


def test_disk_without_end_would_be_found(requests: Requests, canaries: host_view.Canaries) -> None:
    large = lease(requests, size=70 << 30, inodes=5 << 20)
    try:
        for name in ("disk", "inodes"):
            assert carry_out(large, canaries, BY_NAME[name]).held is False
    finally:
        requests.free(large.slot)


def test_what_is_left_of_a_session_is_found(
    requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_view, "GONE_S", 0.5)
    made = lease(requests)
    prints: set[host_view.Footprint] = set()

    def look(_: object) -> None:
        """While the program waits, all of it is there."""
        deadline = time.monotonic() + 10
        while not prints and time.monotonic() < deadline:
            found = [host_view.footprint(pid) for pid in host_view.find("token-left")]
            prints.update(one for one in found if one and one.uid == made.slot.uid)
        (one,) = prints
        left = " ".join(host_view.left(one))
        for what in ("process", "the cgroup", "a mount of its scratch", "the loop device"):
            assert what in left

    program = "import sys  # token-left\nsys.stdin.readline()"
    made.run(f'{PYTHON} -I -c "{program}"', answers=[None], while_running=look)
    requests.free(made.slot)
    assert [host_view.left(one) for one in prints] == [[]]


def test_canaries_tell_what_is_done_to_them(canaries: host_view.Canaries) -> None:
    assert list(canaries.touched()) == []
    told = canaries.told
    with open(told.path, "w") as file:
        file.write("x")
    socket.create_connection(("127.0.0.1", told.tcp)).close()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.sendto(b"x", ("127.0.0.1", told.udp))
    with socket.socket(socket.AF_UNIX) as unix:
        unix.connect("\0" + told.abstract)
    os.kill(told.pid, signal.SIGKILL)
    time.sleep(0.1)
    assert len(list(canaries.touched())) == 5
    assert list(canaries.touched()) == []


def test_program_that_dies_on_the_way_is_unclear_and_no_success() -> None:
    attack = Attack("a", "files", "x", "")
    assert judge(attack, AttackOutcome("", "Traceback\nMemoryError", 1)).held is None
    assert judge(attack, AttackOutcome("not held\nheldx\n", "", 0)).held is None
    assert judge(attack, AttackOutcome("held\n", "", 0, host=("seen",))).held is False
    assert judge(attack, AttackOutcome("broken: it\nheld\n", "", 0)).held is False
    assert judge(attack, AttackOutcome("held\n", "", 0)).held is True
    limited = replace(attack, ends="memory")
    assert judge(limited, AttackOutcome("held\n", "", 0)).held is False
    assert judge(limited, AttackOutcome("", "", 137, limit="memory")).held is True
    cut = replace(attack, ends="cut")
    assert judge(cut, AttackOutcome("x" * (48 << 20), "", 0)).held is False
    assert judge(cut, AttackOutcome("x", "", 0)).held is True
    assert judge(cut, AttackOutcome("x", "", 1)).held is None
