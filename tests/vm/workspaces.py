"""Workspaces of the installed service: below /srv, which is read-only for the daemon, and below
/home, which its unit hides.

scripts/install writes the drop-in that opens the paths of the configuration, and a reload puts
other paths in force. The jobs are those of a user without rights, by the command line.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..waiting import until
from .host import CHECKOUT, count, environ, sh, show

USER = "builder"
SRV, HOME = "/srv/builds", f"/home/{USER}/builds"
CONFIG = Path("/etc/sandboxd/config.toml")
DROP_IN = Path("/etc/systemd/system/sandboxd.service.d/workspaces.conf")
SOCKET = Path("/etc/systemd/system/sandboxd.socket.d/group.conf")
INSTALL = "./scripts/install --wheels /opt/wheels"
RUN = "sandboxd run --workspace . --image shell --exec"


@pytest.fixture(scope="module", autouse=True)
def service() -> Iterator[str]:
    """The installed service, whose socket a user of CI may open: the text of its configuration."""
    sh(f"useradd --create-home {USER} && mkdir -p {SRV} /home/other")
    sh(f"install -d -o {USER} -g {USER} {HOME} {HOME}/job {SRV}/job")
    sh(f"touch /home/{USER}/private /srv/other")
    SOCKET.parent.mkdir(parents=True)
    SOCKET.write_text(f"[Socket]\nSocketMode=0660\nSocketGroup={USER}\n")
    sh(INSTALL)
    yield CONFIG.read_text()
    sh("/opt/sandboxd/current/bin/sandboxd-uninstall --purge")
    sh(f"userdel {USER} && rm -r /home/{USER} /home/other {SRV} /srv/other")


def configure(text: str, *paths: str) -> None:
    """Add the paths of [workspaces] to the configuration `text`."""
    names = ", ".join(f'"{path}"' for path in paths)
    CONFIG.write_text(f"{text}\n[workspaces]\npaths = [{names}]\n")


def reload() -> None:
    """Put the configuration in force, in both halves."""
    before = count("config.read")
    sh("systemctl reload sandboxd")
    until(lambda: count("config.read") > before)


def attempt(path: str, command: str) -> tuple[int, str]:
    """A command of the user in the directory job of `path`: exit code and output."""
    user = f"setpriv --reuid {USER} --regid {USER} --init-groups env HOME=/home/{USER}"
    done = subprocess.run(
        f"cd {path}/job && {user} {command}", shell=True, cwd=CHECKOUT, text=True, env=environ(),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    print(done.stdout)
    return done.returncode, done.stdout


def test_paths_are_refused_with_the_remedy_until_the_drop_in_is_there(service: str) -> None:
    configure(service, SRV, HOME)
    reload()
    until(lambda: "scripts/install" in attempt(SRV, f"{RUN} true")[1])
    until(lambda: "scripts/install" in attempt(HOME, f"{RUN} true")[1])
    assert not DROP_IN.exists()


def test_installation_opens_the_paths_of_the_configuration_alone() -> None:
    sh(INSTALL)
    assert DROP_IN.exists()
    assert show("sandboxd.service", "ProtectHome") == "tmpfs"
    view = f"nsenter --mount=/proc/{show('sandboxd.service', 'MainPID')}/ns/mnt"
    assert sh(f"{view} ls -A /home /home/{USER}") == f"/home:\n{USER}\n\n/home/{USER}:\nbuilds\n"
    for closed in ("/srv/other", "/home/new", f"/home/{USER}/new", "/usr/new"):
        assert "Read-only file system" in sh(f"{view} touch {closed}", code=1)
    for path in (SRV, HOME):
        sh(f"{view} touch {path}/new && rm {path}/new")


@pytest.mark.parametrize("path", [SRV, HOME])
def test_job_of_a_user_works_in_its_directory_and_the_files_are_the_users(path: str) -> None:
    assert attempt(path, "sh -c 'echo source > in'")[0] == 0
    job = "cat in; mkdir -p d; cp in d/out; ln -s out d/link; stat -c %U:%G in d/out"
    code, said = attempt(path, f"{RUN} '{job}'")
    assert (code, "source\nwork:work\nwork:work\n" in said) == (0, True)
    assert sh(f"cat {path}/job/d/out {path}/job/d/link") == "source\nsource\n"
    assert sh(f"find {path}/job ! -user {USER} -o ! -group {USER}") == ""
    assert attempt(path, f"{RUN} 'touch s; chmod u+s s'")[0] == 1
    assert sh(f"find {path}/job -perm /6000") == ""


def test_other_directories_of_the_user_are_no_workspaces() -> None:
    code, said = attempt(HOME, f"{RUN.replace(' . ', f' /home/{USER} ')} true")
    assert (code, "below none" in said) == (2, True)


def test_session_keeps_its_workspace_over_a_restart_and_while_its_path_is_configured(
    service: str,
) -> None:
    assert attempt(SRV, f"{RUN} true --keep --name job-17")[0] == 0
    sh("systemctl restart sandboxd")
    look = "sandboxd exec job-17 -- cat in"
    assert "source\n" in attempt(SRV, look)[1]
    configure(service, HOME)
    reload()
    until(lambda: "below none" in attempt(SRV, look)[1])
    assert attempt(SRV, f"{RUN} true")[0] == 2
    assert attempt(HOME, f"{RUN} true")[0] == 0
    configure(service, SRV, HOME)
    reload()
    until(lambda: "source\n" in attempt(SRV, look)[1])
    assert attempt(SRV, "sandboxd rm job-17")[0] == 0
    assert sh(f"cat {SRV}/job/in") == "source\n"


def test_drop_in_goes_with_the_paths(service: str) -> None:
    CONFIG.write_text(service)
    sh(INSTALL)
    assert not DROP_IN.parent.exists()
    assert show("sandboxd.service", "ProtectHome") == "yes"
    assert attempt(SRV, f"{RUN} true")[0] == 2
