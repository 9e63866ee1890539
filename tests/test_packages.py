"""scripts/packages on a host that lacks something: played with a mount namespace and an apt-get of
the test's own, which installs by uncovering what was hidden."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandboxd.runtimes.builtin import BUILTIN

pytestmark = pytest.mark.slow  # scripts with an apt-get of their own

ROOT = Path(__file__).parent.parent

APT_GET = """#!/bin/sh
echo "$@" >> {calls}
{act}
"""
UNCOVER = """
case "$*" in *install*)
    echo dlstatus:1:12.5:Retrieving >&3; echo dlstatus:1:100:Retrieving >&3
    echo pmstatus:dpkg-exec:0:Running dpkg >&3; echo pmstatus:odd:name:45:Unpacking >&3
    for path in {hidden}; do umount "$path"; done
esac
"""
"""An apt-get that installs, and reports as the real one does."""


@dataclass
class Host:
    """A host of this one's files, without those that are hidden."""

    folder: Path

    def packages(
        self,
        *words: str,
        hide: tuple[str, ...] = (),
        apt: str = UNCOVER,
        run: str = "",
        tools: Mapping[str, str] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> tuple[int, str, list[str]]:
        """`scripts/packages` with these words: exit status, standard error, calls of apt-get."""
        calls = self.folder / "calls"
        calls.touch()
        folder = self.folder / "tools"
        folder.mkdir()
        hidden = " ".join(hide)
        apt_get = APT_GET.format(calls=calls, act=apt.format(hidden=hidden))
        for name, text in (
            {"apt-get": apt_get, "sleep": "#!/bin/sh\n"} | dict(tools or {})
        ).items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        command = shlex.join(["scripts/packages", *words])
        script = f"""
            for path in {hidden}; do mount --bind /dev/null "$path"; done
            mount --bind {folder} /usr/local/sbin
            exec {run} {command}
        """
        base = {"PATH": os.environ["PATH"], "TMPDIR": str(self.folder)}
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-euc", script],
            cwd=ROOT, env=base | dict(environ or {}),
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )  # fmt: skip
        assert done.stdout == ""
        return done.returncode, done.stderr, calls.read_text().splitlines()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


MAKE = ("/usr/bin/make",)
MKFS = ("/usr/sbin/mkfs.ext4",)


def test_host_that_has_everything_is_left_alone(host: Host) -> None:
    assert host.packages("daemon") == (0, "", [])


def test_missing_package_is_named_and_installed_with_progress(host: Host) -> None:
    status, said, calls = host.packages("run", hide=MAKE + MKFS)
    assert status == 0
    assert said.splitlines() == [
        "sandboxd: installing with apt-get: e2fsprogs make",
        "sandboxd:   downloaded 0 %", "sandboxd:   downloaded 100 %", "sandboxd:   installed 0 %",
    ]  # fmt: skip
    assert [call.split()[-1] for call in calls] == ["update", "make"]
    assert "--no-remove" in calls[1] and calls[1].endswith("e2fsprogs make")
    assert not list(host.folder.glob("sandboxd-apt.*"))


@pytest.mark.parametrize(
    ("words", "environ"), [(("--no-install",), {}), ((), {"SANDBOXD_INSTALL": "no"})]
)
def test_forbidden_installation_prints_the_command_to_type(
    host: Host, words: tuple[str, ...], environ: dict[str, str]
) -> None:
    status, said, calls = host.packages(*words, "run", hide=MAKE + MKFS, environ=environ)
    assert (status, calls) == (2, [])
    assert said == (
        "sandboxd: packages are missing; as root: apt-get update && "
        "apt-get install --no-install-recommends e2fsprogs make\n"
    )


def test_without_root_the_command_is_printed(host: Host) -> None:
    # The checkout may lie where only root can read it: so only `id` says that we are not root.
    status, said, calls = host.packages("daemon", hide=MKFS, tools={"id": "#!/bin/sh\necho 1000\n"})
    assert (status, calls) == (2, [])
    assert said.endswith("apt-get install --no-install-recommends e2fsprogs\n")


def test_forbidden_installation_of_a_compiler_alone_goes_on_without(host: Host) -> None:
    status, said, calls = host.packages("--no-install", "run", hide=MAKE)
    assert (status, calls) == (0, [])
    assert said.startswith("sandboxd: going on without: make (as root: apt-get update ")


def test_system_without_apt_gets_a_list_of_what_is_needed(host: Host) -> None:
    without = "rm /usr/local/sbin/apt-get; mount --bind /dev/null /usr/bin/apt-get"
    status, said, _ = host.packages("daemon", hide=MKFS, run=f"sh -euc '{without}; exec \"$@\"' -")
    assert status == 2
    assert said == (
        "sandboxd: packages are missing; "
        "this system has no apt-get: install what Debian calls e2fsprogs\n"
    )


NO_LUCK = 'case "$*" in *install*) seq 100; echo "E: no luck" >&2; exit 100; esac'


def test_failing_apt_shows_the_end_of_its_log(host: Host) -> None:
    status, said, _ = host.packages("daemon", hide=MKFS, apt=NO_LUCK)
    assert status == 2
    lines = said.splitlines()
    assert lines[1] == "87" and lines[15] == "E: no luck"
    log = Path(lines[16].rpartition(" ")[2])
    assert log.read_text().startswith("1\n2\n")


@pytest.mark.parametrize(("purpose", "status"), [("run", 0), ("test", 2)])
def test_failing_apt_stops_the_tests_and_not_a_run_that_can_do_without(
    host: Host, purpose: str, status: int
) -> None:
    done, said, _ = host.packages(purpose, hide=MAKE, apt=NO_LUCK)
    assert done == status
    assert ("going on without: make" in said) == (status == 0)


def test_package_in_no_source_is_explained(host: Host) -> None:
    status, said, _ = host.packages(
        "daemon", hide=MKFS, apt="echo 'E: Unable to locate package e2fsprogs' >&2; exit 100"
    )
    assert status == 2
    assert "component universe" in said


def test_apt_of_somebody_else_is_waited_for(host: Host) -> None:
    busy = r"""
        for last; do :; done
        if [ $(grep -c " $last\$" {calls}) -lt 3 ]; then
            echo "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by 7 (apt)"
            exit 100
        fi
    """.replace("{calls}", str(host.folder / "calls"))
    status, said, calls = host.packages("run", hide=MAKE, apt=busy + UNCOVER)
    assert status == 0, said
    assert said.count("waiting for another apt") == 2  # for its lists, then for dpkg
    assert len([call for call in calls if call.endswith("make")]) > 2


def test_lists_that_cannot_be_fetched_are_not_the_end(host: Host) -> None:
    offline = 'case "$*" in *update*) echo "E: Failed to fetch it"; exit 100 ;; esac\n'
    status, said, _ = host.packages("run", hide=MAKE, apt=offline + UNCOVER)
    assert status == 0
    assert "not all package lists could be fetched" in said and "E: Failed to fetch it" in said


def test_package_that_does_not_bring_what_is_missing_is_reported(host: Host) -> None:
    status, said, _ = host.packages("daemon", hide=MKFS, apt="")
    assert status == 2
    assert said.endswith("packages are missing; apt-get did not bring: e2fsprogs\n")


PYTHONS = tuple(
    path for path in ("/usr/bin/python3", "/usr/local/bin/python3") if Path(path).exists()
)


def test_system_without_python_gets_a_list_of_two_packages(host: Host) -> None:
    status, said, _ = host.packages("--no-install", "client", hide=PYTHONS, run="env PATH=/nowhere")
    assert status == 2
    assert said.endswith("--no-install-recommends python3 python3-venv\n")


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("sys.version_info = (3, 10)", "sandboxd needs 3.11 or newer"),
        ("sys.executable = '/root/.pyenv/bin/python3'", "lies in a home directory"),
        ("sys.modules['ensurepip'] = None", "lacks its venv module"),
    ],
)
def test_python_that_does_not_suit_is_refused_with_the_reason(
    host: Host, tmp_path: Path, code: str, problem: str
) -> None:
    real = shutil.copy(os.path.realpath(sys.executable), tmp_path / "real")
    script = tmp_path / "python3"
    script.write_text(f"""#!/bin/sh
        {{ echo "import os, sys; {code}"; cat; }} | exec {real} -I -
    """)
    script.chmod(0o755)
    covered = "".join(f"mount --bind {script} {path};" for path in PYTHONS)
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-euc", f"{covered} exec scripts/python"],
        cwd=ROOT, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("sandboxd: ") and problem in done.stderr


def test_unknown_purpose_is_refused(host: Host) -> None:
    status, said, _ = host.packages("everything")
    assert status == 2
    assert said.startswith("sandboxd: usage: scripts/packages")


def test_virtual_environment_that_is_a_link_is_not_emptied(tmp_path: Path) -> None:
    """Behind it can be the environment of another checkout, which `venv --clear` would empty."""
    checkout, other = tmp_path / "checkout", tmp_path / "other"
    (checkout / "scripts").mkdir(parents=True)
    for name in ("scripts/venv", "scripts/packages", "scripts/python", "constraints.txt"):
        shutil.copy(ROOT / name, checkout / name)
    (checkout / "pyproject.toml").write_text("[project]\ndependencies = []\n")
    other.mkdir()
    (other / "precious").touch()
    (checkout / ".venv").symlink_to(other)
    done = subprocess.run([checkout / "scripts" / "venv"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "is a symbolic link" in done.stderr and "remove it" in done.stderr
    assert [path.name for path in other.iterdir()] == ["precious"]


def test_packages_of_every_built_in_runtime_are_installed_for_the_tests_of_the_world() -> None:
    text = (ROOT / "scripts" / "packages").read_text()
    wanted = set(re.findall(r"^ +want (\S+)", text, re.MULTILINE)) | {"python3", "bash"}
    # Packages that others bring, or that scripts/packages knows by another name.
    known = {"default-jre-headless", "binutils"}
    needed = {package for runtime in BUILTIN for package in runtime.packages}
    assert needed - wanted - known == set()
