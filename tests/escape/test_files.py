"""What a program could see and change of the host's files, and that it cannot."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxd.jail import mounts, rootfs
from sandboxd.jail.mounts import Bind, Tree
from sandboxd.warden.requests import Requests

from ..sandbox import Sandbox, lease


@pytest.fixture
def canary() -> Iterator[Path]:
    """A file of the host that everybody may read and write."""
    with tempfile.TemporaryDirectory(dir="/var/lib", prefix="sandboxd-canary-") as folder:
        os.chmod(folder, 0o777)
        path = Path(folder, "secret")
        path.write_text("the secret")
        path.chmod(0o666)
        yield path


def test_host_file_cannot_be_read_by_any_path(sandbox: Sandbox, canary: Path) -> None:
    ways = [
        "", "/proc/1/root", "/proc/self/root", "/proc/self/cwd/../../../..", "/..",
        "/proc/1/cwd/../..", "/home/work/../../..",
    ]  # fmt: skip
    reads = "; ".join(f"cat {way}{canary}" for way in ways)
    fds = f"for f in 0 1 2 3 4 5 6 7 8; do cat /proc/self/fd/$f/../../../..{canary}; done"
    result = sandbox.run(f"{reads}; {fds}; echo END", stdin=b"")
    assert result.stdout == "END\n"


def test_visible_host_directory_would_show_the_canary(
    sandbox: Sandbox, canary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: with its directory among the parts of the root, the same read succeeds."""
    system = rootfs.system
    part = Bind("/var/lib", "/var/lib")
    monkeypatch.setattr(rootfs, "system", lambda *a: [*system(*a), part])
    assert sandbox.run(f"cat {canary}").stdout == "the secret"


def test_nothing_can_be_written_outside_the_three_places(sandbox: Sandbox) -> None:
    result = sandbox.run(
        "find / -xdev -writable -not -type l -not -path '/proc/*' 2>/dev/null | sort; "
        "for d in / /aliases /etc /usr /usr/bin /dev /proc /run /home /var /root; do "
        "(echo x > $d/x) 2>/dev/null && echo wrote $d; mkdir $d/y 2>/dev/null && echo made $d; "
        "done; "
        "for d in /home/work /tmp /dev/shm; do echo x > $d/x && echo ok $d; done"
    )
    lines = result.stdout.splitlines()
    assert lines[-3:] == ["ok /home/work", "ok /tmp", "ok /dev/shm"]
    nodes = {f"/dev/{node}" for node in rootfs.NODES}
    assert set(lines[:-3]) <= nodes | {"/home/work", "/tmp", "/dev/shm"}


def test_mount_not_in_the_plan_stops_the_run(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal = Tree.seal

    def sealed_with_a_guest(tree: Tree, paths: tuple[str, ...]) -> None:
        Bind("/root", "/root", mounts.WRITABLE).apply(tree.root)
        seal(tree, paths)

    monkeypatch.setattr(Tree, "seal", sealed_with_a_guest)
    result = sandbox.run("echo ran")
    assert (result.last["event"], result.last["stage"]) == ("fault", "mounts")
    assert "/root is planned" in result.last["message"]


MOUNTS = {
    "/": ("tmpfs", "ro nosuid nodev size=1024k nr_inodes=4096"),
    "/usr": ("", "ro nosuid nodev"),
    "/dev": ("tmpfs", "ro nosuid noexec size=64k nr_inodes=64"),
    "/dev/pts": ("devpts", "nosuid noexec max=64"),
    "/dev/shm": ("tmpfs", "rw nosuid nodev nr_inodes=4096"),
    "/proc": ("proc", "ro nosuid nodev noexec hidepid=invisible"),
    "/home/work": ("ext4", "rw nosuid nodev"),
    "/tmp": ("ext4", "rw nosuid nodev"),
}
"""Point -> file system, and what is among its options; written out, not taken from the plan."""

MASKS = (
    "acpi bus diskstats driver fs interrupts iomem ioports irq kallsyms kcore key-users keys kmsg "
    "kpagecgroup kpagecount kpageflags modules pagetypeinfo sched_debug softirqs sysrq-trigger "
    "timer_list tty vmallocinfo zoneinfo"
)


def test_each_mount_has_the_options_that_bound_it(sandbox: Sandbox) -> None:
    found = {}
    for line in sandbox.run("cat /proc/self/mountinfo").stdout.splitlines():
        left, right = line.split(" - ")
        point, options = left.split()[4:6]
        fstype, _, more = right.split()
        found[point] = fstype, {*options.split(","), *more.split(",")}
    for point, (fstype, wanted) in MOUNTS.items():
        assert fstype in (found[point][0], "")
        assert set(wanted.split()) <= found[point][1], (point, found[point])
    outside = os.statvfs(sandbox.slot.scratch).f_flag
    assert outside & os.ST_NOSUID and outside & os.ST_NODEV, "the scratch, as the warden has it"
    there = {f"/proc/{name}" for name in MASKS.split() if os.path.exists(f"/proc/{name}")}
    assert there <= found.keys()


def test_unsealed_root_stops_the_run(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tree, "seal", lambda tree, paths: None)
    result = sandbox.run("echo ran")
    assert (result.last["event"], result.last["stage"]) == ("fault", "mounts")


def test_sessions_do_not_see_each_other(requests: Requests, sandbox: Sandbox) -> None:
    other = lease(requests)
    try:
        sandbox.run("for d in /home/work /tmp /dev/shm; do echo mine > $d/marker; done")
        found = other.run("find / -name marker 2>/dev/null; cat /tmp/marker /dev/shm/marker; true")
        assert found.stdout == ""
        assert sandbox.slot.uid != other.slot.uid
    finally:
        requests.free(other.slot)


def test_step_that_shuts_the_work_directory_does_not_shut_the_next_out(sandbox: Sandbox) -> None:
    shut = "echo kept > f; chmod 0 /home/work"
    assert sandbox.run("cat f", build=shut, clean=shut).stdout == "kept\n"


def test_work_and_tmp_live_as_long_as_the_session_and_shm_as_long_as_the_run(
    sandbox: Sandbox,
) -> None:
    sandbox.run("echo a > /home/work/f; echo b > /tmp/f; echo c > /dev/shm/f")
    result = sandbox.run("cat /home/work/f /tmp/f /dev/shm/f")
    assert result.stdout == "a\nb\n"


def test_scratch_is_full_at_its_size_and_serves_on(sandbox: Sandbox) -> None:
    result = sandbox.run("head -c 100M /dev/zero > big; stat -c %s big; rm big; echo ok > small")
    assert int(result.stdout.split()[0]) <= 64 << 20
    assert "No space left" in result.stderr
    assert result.exit == 0


def test_scratch_has_a_bound_on_files_too(sandbox: Sandbox) -> None:
    result = sandbox.run("for i in $(seq 6000); do : > f$i || { echo full at $i; break; }; done")
    assert "full at" in result.stdout


def test_no_device_can_be_made_and_the_given_ones_are_harmless(sandbox: Sandbox) -> None:
    result = sandbox.run("mknod d b 8 0; mknod c c 1 1; ls /dev; echo fine > /dev/null && echo ok")
    assert result.stdout.split() == [
        "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty",
        "urandom", "zero", "ok",
    ]  # fmt: skip


MANY_TERMINALS = """
import os
held = []
try:
    while len(held) < 100:
        held.append(os.openpty()[0])
except OSError as error:
    print(error.strerror)
print(len(held))
"""


def test_terminals_of_the_host_cannot_be_used_up(sandbox: Sandbox) -> None:
    result = sandbox.run("exec /usr/bin/python3 -", stdin=MANY_TERMINALS.encode())
    assert result.stdout.split("\n") == ["No space left on device", str(rootfs.TERMINALS), ""]


def test_unbounded_terminals_would_be_taken(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rootfs, "TERMINALS", 4096)
    assert sandbox.run("exec /usr/bin/python3 -", stdin=MANY_TERMINALS.encode()).stdout == "100\n"


def test_kernel_secrets_of_proc_are_masked(sandbox: Sandbox) -> None:
    result = sandbox.run(
        "cd /proc; cat kallsyms keys key-users kmsg sched_debug timer_list interrupts softirqs "
        "diskstats iomem kpageflags partitions 2>/dev/null | wc -c; "
        "(echo h > sysrq-trigger) 2>/dev/null || echo refused; "
        "(echo 1 > sys/kernel/randomize_va_space) 2>/dev/null || echo refused"
    )
    assert result.stdout.split()[:3] == ["0", "refused", "refused"]


def test_deeper_trees_than_path_max_go_with_the_session(requests: Requests) -> None:
    made = lease(requests)
    program = "import os\nfor _ in range(3000):\n    os.mkdir('d' * 20)\n    os.chdir('d' * 20)"
    assert made.run(f'/usr/bin/python3 -c "{program}"').exit == 0
    requests.free(made.slot)
    assert not os.path.exists(made.slot.path)
