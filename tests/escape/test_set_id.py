"""No set-user-ID or set-group-ID file can come to be in a workspace: tried through every call."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxd.jail import seccomp, syscalls
from sandboxd.shim.advice import SET_ID_BITS

from ..sandbox import BareWarden, Sandbox
from ..workspaces import directory, leased, own

BEGIN = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
CREATE, TMPFILE = os.O_CREAT | os.O_WRONLY, os.O_TMPFILE | os.O_WRONLY
def call(number, *arguments):
    result = libc.syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result
os.umask(0)
for mode in sys.argv[1:]:
    MODE = int(mode, 8)
    os.makedirs(mode, exist_ok=True)
    os.chdir(mode)
    open("f", "w").close()
    f = os.open("f", os.O_RDWR)
    try:
        {code}
    except OSError as error:
        print(error.errno)
    os.chdir("..")
"""
"""A program that makes one call for each mode of its arguments, in a directory of that name."""

CALLS = {
    "chmod": "call({chmod}, b'f', MODE)",
    "fchmod": "call({fchmod}, f, MODE)",
    "fchmodat": "call({fchmodat}, AT_FDCWD, b'f', MODE)",
    "fchmodat2": "call({fchmodat2}, AT_FDCWD, b'f', MODE, 0)",
    "chmod with high bits": "call({chmod}, b'f', ctypes.c_ulong(0xffff_ffff_0000_0000 | MODE))",
    "creat": "call({creat}, b'n', MODE)",
    "open": "call({open}, b'n', CREATE, MODE)",
    "openat": "call({openat}, AT_FDCWD, b'n', CREATE, MODE)",
    "open of a nameless file": "t = call({open}, b'.', TMPFILE, MODE); "
    "libc.linkat(AT_FDCWD, b'/proc/self/fd/%d' % t, AT_FDCWD, b'n', 0x400)",
    "openat of a nameless file": "t = call({openat}, AT_FDCWD, b'.', TMPFILE, MODE); "
    "libc.linkat(AT_FDCWD, b'/proc/self/fd/%d' % t, AT_FDCWD, b'n', 0x400)",
    "openat2": "how = struct.pack('QQQ', CREATE, MODE, 0); "
    "call({openat2}, AT_FDCWD, b'n', how, len(how))",
    "mknod": "call({mknod}, b'n', 0o100000 | MODE, 0)",
    "mknod without a type": "call({mknod}, b'n', MODE, 0)",
    "mknodat": "call({mknodat}, AT_FDCWD, b'n', 0o100000 | MODE, 0)",
    "python": "os.chmod('f', MODE)",
}
NAMES = ("chmod", "fchmod", "fchmodat", "fchmodat2", "creat", "open", "openat", "openat2", "mknod",
         "mknodat", "mkdir", "mkdirat", "setxattr", "io_uring_setup")  # fmt: skip
NUMBERS = syscalls.syscall_numbers(list(NAMES))


def program(code: str, *modes: int) -> str:
    """The shell command that runs a program of BEGIN."""
    numbers = {name: NUMBERS.get(name, -1) for name in NAMES}
    text = BEGIN.replace("{code}", code.format(**numbers))
    arguments = " ".join(f"{mode:o}" for mode in modes)
    return f"python3 - {arguments} <<'END'\n{text}\nEND"


def skip_if_unknown(call: str) -> None:
    """Skip a call that this kernel does not have: fchmodat2 came with Linux 6.6."""
    libc = ctypes.CDLL(None, use_errno=True)
    if call != "fchmodat2":
        return
    libc.syscall(NUMBERS.get(call, -1), -1, None, 0, 0)
    if ctypes.get_errno() == errno.ENOSYS:
        pytest.skip("this kernel has no fchmodat2")


@pytest.fixture
def session(warden: BareWarden, checkout: Path) -> Iterator[Sandbox]:
    sandbox = leased(warden, checkout)
    yield sandbox
    sandbox.end_warm()
    warden.free(sandbox.slot)


@pytest.fixture
def unprotected(warden: BareWarden, session: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """The same, with the filter of a session without a workspace."""
    monkeypatch.setattr(warden.resources, "workspace_filters", {"": seccomp.compile()})
    return session


def set_id_files(checkout: Path) -> list[str]:
    """The regular files of a tree with one of the bits, as the host sees them."""
    paths = []
    for top, _, names in os.walk(checkout):
        for name in names:
            mode = os.lstat(f"{top}/{name}").st_mode
            if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
                paths.append(name)
    return paths


@pytest.mark.parametrize("call", CALLS)
def test_set_id_file_of_a_workspace_is_refused(session: Sandbox, checkout: Path, call: str) -> None:
    result = session.run(program(CALLS[call], 0o4755, 0o2755, 0o6777))
    expected = errno.ENOSYS if call == "openat2" else errno.EPERM
    assert result.stdout.split() == [str(expected)] * 3, result.stderr
    assert set_id_files(checkout) == []


@pytest.mark.parametrize("call", CALLS)
def test_set_id_file_comes_to_be_on_the_host_without_the_filter_of_workspaces(
    unprotected: Sandbox, checkout: Path, call: str
) -> None:
    skip_if_unknown(call)
    assert unprotected.run(program(CALLS[call], 0o4755)).stdout == ""
    assert set_id_files(checkout)


@pytest.mark.parametrize("call", ["mkdir", "mkdirat"])
def test_directory_with_set_id_bits_is_refused_at_its_creation(
    session: Sandbox, checkout: Path, call: str
) -> None:
    """The kernel drops these bits today (vfs_mkdir)."""
    at = "AT_FDCWD, " if call == "mkdirat" else ""
    result = session.run(program(f"call({{{call}}}, {at}b'd', MODE)", 0o2755))
    assert result.stdout.split() == [str(errno.EPERM)]
    assert os.listdir(checkout / "2755") == ["f"]


@pytest.mark.parametrize("call", sorted(set(CALLS) - {"openat2"}))
def test_call_without_the_bits_works_as_before(session: Sandbox, checkout: Path, call: str) -> None:
    skip_if_unknown(call)
    modes = (0o755, 0o1777, 0o100)
    result = session.run(program(CALLS[call], *modes))
    assert (result.exit, result.stdout) == (0, ""), result.stderr
    name = "f" if "chmod" in call or call == "python" else "n"
    for mode in modes:
        assert os.lstat(checkout / f"{mode:o}" / name).st_mode & 0o7777 == mode


def test_mode_of_an_open_that_creates_nothing_may_be_any_number(session: Sandbox) -> None:
    """Programs in assembly leave what they had in the register."""
    assert session.run(program("call({open}, b'f', os.O_RDONLY, 0o7777)", 0)).stdout == ""
    assert session.run(program("call({openat}, AT_FDCWD, b'f', 0, 0o7777)", 0)).stdout == ""


def test_file_capability_cannot_be_set(session: Sandbox) -> None:
    value = "struct.pack('IIIII', 0x02000001, 1 << 7, 0, 0, 0)"
    code = f"call({{setxattr}}, b'f', b'security.capability', {value}, 20, 0)"
    assert session.run(program(code, 0)).stdout.split() == [str(errno.EPERM)]


def test_io_uring_is_no_way_around_the_filter(session: Sandbox) -> None:
    assert session.run(program("call({io_uring_setup}, 1, b'\\0' * 120)", 0)).stdout.split() == [
        str(errno.ENOSYS)
    ]


def test_file_in_a_directory_with_set_group_id_gets_no_bit(
    session: Sandbox, checkout: Path
) -> None:
    """Only directories inherit the bit: on them it says whose group new files have."""
    shared = directory(checkout, "shared")
    shared.chmod(0o2775)
    result = session.run(
        "cd shared; touch f; chmod 755 f; mkdir -p d/e; cp /bin/true t; install -m 755 /bin/true i;"
        " touch d/e/f"
    )
    assert (result.exit, result.stderr) == (0, "")
    assert set_id_files(checkout) == []
    assert stat.S_IMODE((shared / "d/e").stat().st_mode) == 0o2755


def test_program_that_writes_into_a_set_id_file_takes_its_bits_away(
    session: Sandbox, checkout: Path
) -> None:
    (checkout / "suid").write_text("text")
    own(checkout / "suid", mode=0o6755)
    assert session.run("echo x >> suid").exit == 0
    assert set_id_files(checkout) == []


def test_user_outside_of_the_session_is_not_filtered(checkout: Path) -> None:
    (checkout / "f").touch()
    (checkout / "f").chmod(0o4755)
    assert set_id_files(checkout) == ["f"]


def test_refused_bit_is_named_in_the_verdict(session: Sandbox) -> None:
    result = session.run("touch f; chmod u+s f")
    assert result.exit == 1
    assert result.verdict["denied_syscall"] in ("fchmodat", "fchmodat2", "chmod")
    assert result.verdict["advice"].endswith(f" once: {SET_ID_BITS}")


def test_mode_of_a_directory_with_set_group_id_changes_after_what_the_advice_says(
    session: Sandbox, checkout: Path
) -> None:
    shared = directory(checkout, "shared")
    shared.chmod(0o2755)
    assert session.run("chmod 775 shared").verdict["advice"].endswith(SET_ID_BITS)
    assert session.run("chmod g-s shared; chmod 775 shared").exit == 0
    assert stat.S_IMODE(shared.stat().st_mode) == 0o775


def test_warm_jail_of_a_workspace_keeps_the_filter(session: Sandbox, checkout: Path) -> None:
    for _ in range(3):
        assert session.run("touch f; chmod 4755 f").exit == 1
    assert set_id_files(checkout) == []


def test_runtime_with_a_filter_of_its_own_has_the_rules_of_workspaces_too(
    warden: BareWarden, session: Sandbox, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filters = warden.resources.workspace_filters
    own_filter = seccomp.compile(allow=("ptrace",), set_id=False)
    monkeypatch.setitem(filters, "own", own_filter)
    assert session.run("touch f; chmod 4755 f", runtime="own").exit == 1
    assert set_id_files(checkout) == []


def test_run_with_a_workspace_stops_where_its_filter_is_missing(
    warden: BareWarden, session: Sandbox, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warden.resources, "workspace_filters", {})
    result = session.run("touch f")
    assert result.last["event"] == "fault"
    assert not (checkout / "f").exists()
