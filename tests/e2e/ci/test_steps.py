"""Steps of `sandboxd sh` and `run` in a workspace: hostile scripts, another user, secrets, and
directories that need care."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from sandboxd.warden.slots.workspaces import User

from ...users import acting_as
from ...waiting import until
from ...workspaces import own
from ..daemon import Daemon
from ..state_search import holders
from .conftest import USER
from .user import CiUser

SECRET = "value-of-the-secret-8d1c"
SH = ("sandboxd", "sh", "--workspace", ".")


def directory(place: Path) -> Path:
    """A new directory of the user."""
    place.mkdir()
    return own(place, USER)


def text(place: Path, content: str) -> Path:
    """A file of the user."""
    place.write_text(content)
    return own(place, USER)


def test_step_that_puts_a_link_for_the_directory_of_its_files_has_no_other_file_written(
    user: CiUser, wordcount: Path
) -> None:
    files, victim = directory(wordcount / "files"), directory(user.home / "victim")
    output, other = text(files / "output", ""), text(victim / "output", "of the user\n")
    script = "mv files away; ln -s ../victim files; echo x=1 >> $GITHUB_OUTPUT"
    status, said = user.call([*SH, "-ec", script], wordcount, GITHUB_OUTPUT=str(output))
    assert status == 0, said
    assert (wordcount / "files").is_symlink()
    assert other.read_text() == "of the user\n"
    assert (wordcount / "away/output").read_text() == "x=1\n"


def test_link_or_pipe_in_place_of_a_file_of_the_step_is_refused(
    user: CiUser, wordcount: Path
) -> None:
    other = text(user.home / "other", "of the user\n")
    link, pipe = user.home / "link", user.home / "pipe"
    link.symlink_to(other)
    os.mkfifo(pipe)
    own(pipe, USER)
    for path in (link, pipe):
        status, said = user.call([*SH, "-c", "true"], wordcount, GITHUB_ENV=str(path))
        assert status == 2 and path.name in said, said
    assert other.read_text() == "of the user\n"


def test_other_user_of_the_host_reaches_neither_session_nor_workspace(
    user: CiUser, wordcount: Path, daemon: Daemon
) -> None:
    other = CiUser(daemon, user.home, User(type(USER.ids)(61012, 62012), (62012,)).ids)
    command = ["sandboxd", "run", "--workspace", ".", "--image", "c", "--exec", "true", "--keep"]
    assert user.call([*command, "--name", "mine"], wordcount)[0] == 0
    for words in (
        ["exec", "mine", "--", "id"], ["sh", "--session", "mine", "-c", "id"], ["rm", "mine"],
        ["logs", "mine"], ["ls", "mine"], ["cp", "mine:main", "/nonexistent"],
    ):  # fmt: skip
        status, said = other.call(["sandboxd", *words], Path("/"))
        assert status != 0 and "no session mine" in said, said
    status, said = other.call(
        ["sandboxd", "sh", "--workspace", str(wordcount), "-c", "id"], Path("/")
    )
    assert status == 2 and "does not belong to the user" in said
    assert "mine" not in other.call(["sandboxd", "ps"], Path("/"))[1]
    assert user.call(["sandboxd", "rm", "mine"], wordcount)[0] == 0


def test_secret_of_a_step_is_in_no_argument_list_and_in_no_file_afterwards(
    user: CiUser, wordcount: Path, daemon: Daemon
) -> None:
    script = 'test "$DEPLOY_TOKEN" && echo up && until [ -e go ]; do sleep 0.1; done'
    process = user.begin([*SH, "-ec", script], wordcount, DEPLOY_TOKEN=SECRET,
                         SANDBOXD_ENV="DEPLOY_TOKEN")  # fmt: skip
    user.wait_for(process, "up")
    assert readers("cmdline", 0) == []
    with acting_as(61012):
        assert readers("environ", 61012) == []
    text(wordcount / "go", "")
    assert process.wait(60) == 0
    until(lambda: not holders(daemon.state, SECRET.encode()))


def readers(name: str, uid: int) -> list[Path]:
    """The files `name` of processes that have the secret, as far as the user may read them."""
    assert os.geteuid() == uid
    seen = []
    for path in Path("/proc").glob(f"[0-9]*/{name}"):
        with contextlib.suppress(OSError):
            if SECRET.encode() in path.read_bytes():
                seen.append(path)
    return seen


def test_workspace_with_the_set_group_id_bit_gets_a_warning(user: CiUser, wordcount: Path) -> None:
    assert "set-group-ID" not in user.call([*SH, "-c", "true"], wordcount)[1]
    wordcount.chmod(0o2755)
    script = "mkdir new && stat -c %A new && chmod 755 new"
    status, said = user.call([*SH, "-c", script], wordcount)
    assert (status, "drwxr-sr-x" in said) == (1, True)  # the one road of chmod is refused
    assert "has the set-group-ID bit" in said and "chmod g-s" in said
    wordcount.chmod(0o755)


def test_links_in_a_loop_and_out_of_the_workspace_stop_no_run(
    user: CiUser, wordcount: Path
) -> None:
    for name, target in (("loop", "loop"), ("away", "/etc/shadow"), ("Makefile.old", "none")):
        (wordcount / name).symlink_to(target)
    command = ["sandboxd", "run", "--workspace", ".", "--build", "*", "--exec", "cat away"]
    status, said = user.call(command, wordcount)
    assert (status, "cc -O2" in said) == (1, True), said


def test_folder_in_a_workspace_needs_no_preparation(user: CiUser, wordcount: Path) -> None:
    assert user.call(["sandboxd", "folder", "create", "kept", "--size", "16m"], wordcount)[0] == 0
    command = [*SH, "--folder", "kept", "-c", "df -P kept | tail -n 1; echo x > kept/x"]
    status, said = user.call(command, wordcount)
    assert (status, "/home/work/kept" in said) == (0, True), said
    assert list((wordcount / "kept").iterdir()) == [], "what is in it is on the folder's own disk"
    assert user.call(["sandboxd", "folder", "rm", "kept"], wordcount)[0] == 0
