"""The probes of isolation: each wall by itself, and at last a whole run."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ....config.settings import STEP_LIMITS
from ....errors import StageError
from ....host import mountinfo
from ....jail import identity, namespaces, network, overlays, rlimits, rootfs, seccomp, syscalls
from ....jail.cgroup import Group
from ....jail.chroot import own_mounts
from ....jail.enter import Jail, JailSession
from ....jail.mounts import READ_ONLY, Mount, Node, clone
from ....jail.shown_files import Selection
from ....jail.stage import expect, stage
from ....shim import launch
from ....shim.denied_calls import DeniedCalls
from ....wire import messages
from ...host_files import make_view
from ...uid_lease import UidLease, lease_uid
from ..trial import Trial, attempt
from . import Probe, ProbeContext
from .limits import own_group

SECONDS = 40.0
"""The longest time of one child of a probe, mainly of a whole run; see guarantees.SECONDS."""

_FLAGS = {
    "cgroup": syscalls.CLONE_NEWCGROUP, "ipc": syscalls.CLONE_NEWIPC,
    "mnt": syscalls.CLONE_NEWNS, "net": syscalls.CLONE_NEWNET, "uts": syscalls.CLONE_NEWUTS,
    "user": syscalls.CLONE_NEWUSER,
}  # fmt: skip
_UID_TRIES = 64


def namespace(kind: str) -> Probe:
    """The probe of one kind of namespace, named as in /proc/PID/ns."""
    return partial(_namespace, kind)


def _namespace(kind: str, _: ProbeContext) -> str:
    before = os.readlink(f"/proc/self/ns/{kind}")
    syscalls.unshare(_FLAGS[kind])
    expect(kind, "still the host's", os.readlink(f"/proc/self/ns/{kind}") == before, False)
    return ""


def packet_copies(_: ProbeContext) -> str:
    """A run of its own network keeps no copies of packets, or the host has that switched off."""
    setting = Path(network.COPIES)
    of_host = setting.read_text().strip() if setting.exists() else ""
    syscalls.unshare(syscalls.CLONE_NEWNET)
    if setting.exists():
        network.forbid_copies()
        expect("network", network.COPIES, setting.read_text().strip(), "0")
        return "switched off in each run"
    if of_host != "0":
        text = "this kernel has net.core.tstamp_allow_data for the whole host alone, and it is on"
        raise StageError("network", text)
    return "switched off for the whole host"


def pid_namespace(_: ProbeContext) -> str:
    """A child is the first process of its world."""
    syscalls.unshare(syscalls.CLONE_NEWPID)
    pid = attempt(lambda: str(os.getpid()), SECONDS)
    expect("pid", "pid in a new namespace", pid, "1")
    return ""


def sealed_mounts(host: ProbeContext) -> str:
    """A tree is cloned, made read-only and attached by descriptor; then it cannot be written."""
    own_mounts()
    Mount("", "tmpfs", 0, "size=64k").apply(host.directory)
    source, target = f"{host.directory}/source", f"{host.directory}/target"
    os.mkdir(source)
    os.mkdir(target)
    fd = clone(source)
    syscalls.mount_setattr(fd, READ_ONLY)
    syscalls.move_mount(fd, target)
    _refused(errno.EROFS, "a file was made in a read-only tree", lambda: os.mkdir(f"{target}/x"))
    return ""


def own_inodes(host: ProbeContext) -> str:
    """All that the host shows is seen through overlays, and a lock there is not the host's."""
    own_mounts()
    Mount("", "tmpfs", 0, "size=64k").apply(host.directory)
    view = overlays.plan(host.directory, host.config.rootfs.paths, (), mountinfo.read())
    os.mkdir(view.copy)
    Path(view.copy, "file").touch()
    overlays.make_places(view)
    for overlay in view.overlays():
        with stage(f"overlay of {overlay.lower}"):
            overlay.apply("")
    with open(f"{view.copy}/file") as ours, open(f"{overlays.LAYERS}/0/file") as runs:
        fcntl.flock(runs, fcntl.LOCK_EX)
        fcntl.flock(ours, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return f"{len(view.lowers)} overlays"


def devices(host: ProbeContext) -> str:
    """The nodes of /dev can be made, and used; containers forbid either."""
    own_mounts()
    Mount("", "tmpfs", 0, "size=64k").apply(host.directory)
    for name, (major, minor) in rootfs.NODES.items():
        Node(f"/{name}", major, minor).apply(host.directory)
    fd = os.open(f"{host.directory}/zero", os.O_RDONLY)
    expect("devices", "read from zero", os.read(fd, 1), b"\0")
    return ""


def own_proc(host: ProbeContext) -> str:
    """A /proc of the run's own processes only."""
    own_mounts(syscalls.CLONE_NEWPID)

    def listed() -> str:
        Mount("", "proc", 0, "hidepid=2").apply(host.directory)
        return " ".join(name for name in os.listdir(host.directory) if name.isdigit())

    expect("proc", "processes seen", attempt(listed, SECONDS), "1")
    return ""


def loopback(_: ProbeContext) -> str:
    """A network of its own, whose loopback comes up."""
    syscalls.unshare(syscalls.CLONE_NEWNET)
    network.apply()
    network.verify()
    return ""


def privileges(host: ProbeContext) -> str:
    """uid, groups, five capability sets, securebits, no_new_privs: gone and read back."""
    identity.apply(host.uid, host.uid)
    identity.verify(host.uid, host.uid)
    return ""


def no_new_privs(_: ProbeContext) -> str:
    """A set-user-ID program gives nothing: the bit is set and cannot be taken back."""
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    expect("no_new_privs", "bit", syscalls.prctl(syscalls.PR_GET_NO_NEW_PRIVS), 1)
    clear = partial(syscalls.prctl, syscalls.PR_SET_NO_NEW_PRIVS, 0)
    _refused(errno.EINVAL, "the bit could be taken back", clear)
    return ""


def limits(host: ProbeContext) -> str:
    """Limits of a process, as the default run has them."""
    wanted = rlimits.plan(host.config.limits.exec)
    rlimits.apply(wanted)
    rlimits.verify(wanted)
    return ""


def filter(_: ProbeContext) -> str:
    """The system call filter is compiled and put on; a refused call gets its answer from us."""
    compiled = seccomp.compile()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def filtered() -> str:
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        listener = seccomp.apply(compiled.program)
        messages.send(theirs, {}, [listener])
        os.close(listener)
        seccomp.verify()
        return ""

    deadline = time.monotonic() + SECONDS
    trial = Trial({"seccomp": filtered})
    theirs.close()
    with ours:
        fds = messages.receive(ours)[1]
    if fds:
        denied = DeniedCalls(fds[0], compiled.refused)
        while not denied.answer() and time.monotonic() < deadline and not trial.is_over():
            time.sleep(0.001)
    outcome = trial.outcomes(deadline)["seccomp"]
    if not outcome.done:
        raise StageError("seccomp", outcome.text, outcome.errno, outcome.remedy)
    expect("seccomp", "name of the refused call", denied.last, "unshare")
    return f"{len(compiled.program) // 8} instructions, refused calls are reported by name"


def whole_run(host: ProbeContext) -> str:
    """All of it together: a run from its cgroup to the exit code of its shell."""
    with own_group(host, "run") as group, _lease(host) as lease:
        uid = lease.uid
        group.limit(STEP_LIMITS)
        # In a child again: its root becomes the jail's, from where nothing can be removed.
        code = attempt(lambda: _run(host, group, uid), SECONDS)
    expect("run", "exit code", code, "42")
    shown = host.config.rootfs
    names = len(shown.etc_builtin) + len(shown.etc)
    return f"{len(shown.paths)} directories and {names} names of /etc shown"


def _run(host: ProbeContext, group: Group, uid: int) -> str:
    """The exit code of a shell in a jail, in a scratch in memory."""
    own_mounts()
    Mount("", "tmpfs", 0, "size=1m,mode=755").apply(host.directory)
    work, tmp, root, copy = (f"{host.directory}/{name}" for name in ("work", "tmp", "root", "copy"))
    for path in (work, tmp, root):
        os.mkdir(path)
        os.chown(path, uid, uid)
    # The files of packages take longer, and are copied in the same way.
    rootfs = host.config.rootfs
    selected = Selection(rootfs.etc_builtin, rootfs.etc, packages=False)
    view = make_view(copy, selected, rootfs.paths)
    outside, program = namespaces.current(), seccomp.compile()
    jail = Jail(root, rootfs.paths, view, (outside,), {"": program}, {})
    limits = host.config.limits.exec
    init = launch.prepare(jail)
    try:
        session = JailSession(uid, uid, group, "", limits, clone(work), clone(tmp))
        launch.send_claim(init, session)
        launch.await_claim(init, program.refused, lambda: 0)
        null = os.open("/dev/null", os.O_RDWR)
        init.start("/bin/sh", "exit 42", {}, [null, null, null])
        answer = init.receive() or {}
    finally:
        init.kill()
    return str(os.waitstatus_to_exitcode(answer.get("exit", 0)))


def _lease(host: ProbeContext) -> UidLease:
    """The lease of a free uid, from the last slot down."""
    slots = host.config.slots
    last = slots.first_uid + slots.count - 1
    for uid in range(last, max(slots.first_uid, last - _UID_TRIES) - 1, -1):
        if lease := lease_uid(uid):
            return lease
    raise StageError("run", f"all uids up to {last} are leased")


def _refused(code: int, otherwise: str, act: Callable[[], object]) -> None:
    """`act` must fail with `code`; raises StageError `otherwise`."""
    try:
        act()
    except OSError as error:
        if error.errno == code:
            return
        raise
    raise StageError("probe", otherwise)
