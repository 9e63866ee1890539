"""A whole job of GitLab Runner in a session, from its sources to its artifacts.

The scripts have the form of the runner's own. git is the host's, the coordinator and the program
gitlab-runner in the session are stand-ins of the tests.
"""

from __future__ import annotations

import base64
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..waiting import until
from .conftest import passable
from .coordinator import TOKEN, Coordinator, coordinator
from .daemon import ROOT, SLOTS, Daemon, running, sessions_of
from .gitlab_runner import BUILD_FAILURE, Runner, script
from .state_search import holders

pytestmark = pytest.mark.needs("git", "curl")

BUILDS = "/home/work/builds"
PLACE, TEMPORARY = f"{BUILDS}/group/project", f"{BUILDS}/group/project.tmp"
EXTERNAL, TEMPLATE = f"{TEMPORARY}/.gitlab-runner.ext.conf", f"{TEMPORARY}/git-template"
GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@example", "-c", "protocol.file.allow=always")
FILES, LARGE = 5000, 12 << 20
FORMS = (TOKEN.encode(), *(
    base64.b64encode(bytes(shift) + TOKEN.encode())[4:-4] for shift in range(3)
))  # fmt: skip
"""The token as it is, and in base64."""


def git(place: Path, *words: str) -> str:
    """A git command of the people who write the project."""
    environ = os.environ | {"GIT_CONFIG_GLOBAL": "/dev/null"}
    done = subprocess.run([*GIT, *words], cwd=place, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def repository(root: Path, name: str, tree: Path) -> str:
    """Serve the files of `tree` as the repository NAME.git; the commit."""
    git(tree, "init", "-q", "-b", "main")
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", "one")
    git(root, "clone", "-q", "--bare", str(tree), f"{name}.git")
    git(root / f"{name}.git", "config", "uploadpack.allowAnySHA1InWant", "true")
    return git(tree, "rev-parse", "HEAD")


@pytest.fixture(scope="module")
def project() -> Iterator[tuple[Coordinator, str]]:
    """A project with a submodule, links, a large file and many small ones; its commit."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "served/group").mkdir(parents=True)
        shutil.copytree(ROOT / "examples/wordcount", folder / "tree")
        (folder / "part").mkdir()
        (folder / "part/file").write_text("of the submodule\n")
        repository(folder / "served/group", "part", folder / "part")
        tree = folder / "tree"
        for number in range(FILES):
            place = tree / f"many/{number % 50}"
            place.mkdir(parents=True, exist_ok=True)
            (place / str(number)).write_text(f"{number}\n")
        (tree / "large").write_bytes(os.urandom(LARGE))
        (tree / "link").symlink_to("data/mill.txt")
        (tree / "away").symlink_to("/etc/passwd")
        git(tree, "init", "-q", "-b", "main")
        git(tree, "submodule", "add", "-q", f"{folder}/served/group/part.git", "part")
        git(tree, "config", "-f", ".gitmodules", "submodule.part.url", "../part.git")
        commit = repository(folder / "served/group", "project", tree)
        with coordinator(folder / "served") as server:
            yield server, commit


@pytest.fixture(scope="module")
def helper() -> Iterator[Path]:
    """A directory of the host with the stand-in for gitlab-runner."""
    with tempfile.TemporaryDirectory(prefix="sandboxd-test-helper-", dir="/opt") as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copy(Path(__file__).with_name("gitlab_helper.sh"), folder / "gitlab-runner")
        (folder / "gitlab-runner").chmod(0o755)
        yield folder


@pytest.fixture(scope="module")
def daemon(project: tuple[Coordinator, str], helper: Path) -> Iterator[Daemon]:
    """A daemon whose network profile names the coordinator, and whose jails show the helper."""
    config = f"""
[network.profiles.gitlab]
hosts = ["{project[0].address}"]
[rootfs]
paths = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "{helper}"]
[admission.owner]
sessions = 2
"""
    with passable() as folder, running(folder, config + SLOTS) as started:
        yield started


class Job:
    """The job of a project at a commit, whose scripts are those of the runner."""

    def __init__(self, daemon: Daemon, folder: Path, server: Coordinator, commit: str) -> None:
        self.url = f"http://{server.address}"
        repo_url = f"http://gitlab-ci-token:{TOKEN}@{server.address}/group/project.git"
        facts: dict[str, Any] = {
            "image": {"name": "c"}, "job_info": {"project_id": 42},
            "git_info": {"repo_url": repo_url, "protected": False},
        }  # fmt: skip
        self.runner, self.commit = Runner(daemon, folder, **facts), commit
        self.cache = ""

    def exports(self) -> list[str]:
        """The begin of each script: variables, and the file of a variable of the type file."""
        return [
            f"export CI_PROJECT_DIR={PLACE}", f"export CI_JOB_TOKEN={TOKEN}",
            f"mkdir -p {TEMPORARY}", f"printf '%s' $'of a\\nfile' > {TEMPORARY}/KUBECONFIG",
            f"export KUBECONFIG={TEMPORARY}/KUBECONFIG",
            "export CI_COMMIT_MESSAGE=$'it\\'s \\xc3\\xbc'",
        ]  # fmt: skip

    def sources(self) -> list[str]:
        """The script get_sources, with the strategy fetch, submodules and a depth."""
        url = f"{self.url}/group/project.git"
        with_token = self.url.replace("//", f"//gitlab-ci-token:{TOKEN}@")
        fetch = f"git -c include.path={EXTERNAL} -c http.userAgent=runner"
        refs = f"+{self.commit}:refs/pipelines/7 +refs/heads/main:refs/remotes/origin/main"
        return [
            *self.exports(),
            "export GIT_TERMINAL_PROMPT=0", "export GIT_LFS_SKIP_SMUDGE=1",
            f"mkdir -p {TEMPLATE}", f"git config -f {TEMPLATE}/config init.defaultBranch none",
            f"git config -f {TEMPLATE}/config credential.interactive never",
            f"rm -f {EXTERNAL}",
            f"git config --file {EXTERNAL} --replace-all url.{with_token}.insteadOf {self.url}",
            f"git config --file {TEMPLATE}/config --replace-all include.path {EXTERNAL}",
            f"git init {PLACE} --template {TEMPLATE}", f"cd {PLACE}",
            f"if git remote add origin {url} >/dev/null 2>&1 ; then",
            "  echo $'\\x1b[32;1mCreated fresh repository.\\x1b[0;m'",
            "else", f"  git remote set-url origin {url}", "fi",
            f"{fetch} fetch origin --no-recurse-submodules {refs} --depth 20 --prune --quiet",
            f"git -c submodule.recurse=false checkout -f -q {self.commit}", "git clean -ffdx",
            "git submodule init", "git submodule sync --recursive",
            f"{fetch} submodule update --init --recursive --depth 20",
        ]  # fmt: skip

    def helper(self, place: Path, words: str, what: str) -> list[str]:
        """A script that calls the runner's program in the session."""
        program = f"{place}/gitlab-runner"
        return [
            *self.exports(), f"cd {PLACE}", f"if {program} --version >/dev/null 2>&1 ; then",
            f"  {program} {words}",
            "else", f"  echo 'Missing {program}. {what} is disabled.'", "fi",
        ]  # fmt: skip

    def run(self, stage: str, *lines: str) -> str:
        """A script that must succeed; its output."""
        status, output, errors = self.runner.run(script(lines), stage)
        assert status == 0, f"{stage}: {output}{errors}"
        return output + errors


@pytest.fixture
def job(daemon: Daemon, project: tuple[Coordinator, str], tmp_path: Path) -> Iterator[Job]:
    """A job that is prepared, and cleaned up afterwards."""
    one = Job(daemon, tmp_path, *project)
    prepare(one)
    yield one
    assert one.runner.call("cleanup")[0] == 0
    assert sessions_of(daemon.state) == {}


def prepare(job: Job) -> None:
    status, output, errors = job.runner.call("prepare", "--network", "gitlab", "--cache", "64m")
    assert status == 0, output + errors
    job.cache = job.runner.settings()["cache_dir"]


def test_job_gets_its_sources_and_cache_and_leaves_artifacts(
    job: Job, helper: Path, project: tuple[Coordinator, str]
) -> None:
    job.run("prepare_script", 'echo "Running on $(hostname)..."')
    assert "Created fresh repository" in job.run("get_sources", *job.sources())
    archive = f"--file ../../../{Path(job.cache).name}/group/project/key/cache.zip"
    job.run("restore_cache", *job.exports(), f"cd {PLACE}", "true")
    output = job.run(
        "build_script", *job.exports(), f"cd {PLACE}",
        "cat part/file; cat $KUBECONFIG; echo; echo $CI_COMMIT_MESSAGE",
        "find many -type f | wc -l; stat -c %s large; readlink link away",
        "make >/dev/null", "./main data/*.txt > report.txt; mkdir -p kept; echo x > kept/x",
        "git status --short",
    )  # fmt: skip
    expected = ["of the submodule", "of a", "file", "it's ü", str(FILES), str(LARGE),
                "data/mill.txt", "/etc/passwd"]  # fmt: skip
    assert output.splitlines()[:8] == expected
    job.run("after_script", *job.exports(), f"cd {PLACE}", "test -e main")
    archiver = f"cache-archiver {archive} --timeout 10 --path kept"
    job.run("archive_cache", *job.helper(helper, archiver, "Creating cache"))
    upload = f"artifacts-uploader --url {job.url} --token {TOKEN} --id 5 --path report.txt"
    job.run("upload_artifacts_on_success", *job.helper(helper, upload, "Uploading artifacts"))
    job.run("cleanup_file_variables", f"rm -f {TEMPORARY}/KUBECONFIG")
    assert len(project[0].artifacts["/api/v4/jobs/5/artifacts"]) > 1000

    prepare(job)  # the next job of the project
    job.run("get_sources", *job.exports(), f"mkdir -p {PLACE}")
    extractor = f"cache-extractor {archive} --timeout 10"
    job.run("restore_cache", *job.helper(helper, extractor, "Extracting cache"))
    download = f"artifacts-downloader --url {job.url} --token {TOKEN} --id 5"
    job.run("download_artifacts", *job.helper(helper, download, "Artifacts downloading"))
    look = job.run("build_script", f"cd {PLACE}", "cat kept/x; grep -c words report.txt; ls")
    assert look.split() == ["x", "1", "kept", "report.txt"]


def test_job_reaches_no_other_host(job: Job) -> None:
    lines = ["curl -sS -m 5 http://127.0.0.3:81/ || echo refused", "env | grep -i _proxy"]
    output = job.run("build_script", *lines)
    assert "refused" in output and "127.0.0.1:3128" in output


@pytest.mark.parametrize("is_legacy", [False, True])
def test_failure_in_a_script_of_the_runners_form_keeps_its_code(job: Job, is_legacy: bool) -> None:
    text = script(["echo before", "cd / && sh -c 'exit 42'", "echo after"], is_legacy)
    code = subprocess.run(["bash", "-c", text], stdout=subprocess.DEVNULL).returncode
    assert is_legacy or code == 42  # bash 5.2 with pipefail says 1 in the legacy form
    assert job.runner.run(text)[:2] == (BUILD_FAILURE, "before\n")
    assert job.runner.code.read_text() == str(code)


@pytest.mark.parametrize("is_legacy", [False, True])
def test_cancelled_script_of_the_runners_form_ends_with_all_that_it_started(
    job: Job, is_legacy: bool
) -> None:
    lines = ["setsid sleep 300 &", "trap 'echo saved; exit 9' TERM", "echo up", "sleep 300 & wait"]
    process = job.runner.begin("run", job.runner.script(script(lines, is_legacy)), "build_script")
    assert process.stdout and process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert (output, process.returncode) == ("saved\n", BUILD_FAILURE)
    assert job.run("after_script", "ps -e -o comm= | grep -c sleep || true").split() == ["0"]


def test_nothing_of_the_token_is_left_after_the_job(
    daemon: Daemon, project: tuple[Coordinator, str], tmp_path: Path
) -> None:
    one = Job(daemon, tmp_path, *project)
    prepare(one)
    one.run("build_script", *one.exports(), "echo $CI_JOB_TOKEN > kept-by-the-job")
    assert holders(daemon.state / "api", *FORMS), "while the job goes on, the daemon has its script"
    assert one.runner.call("cleanup")[0] == 0
    until(lambda: not holders(daemon.state, *FORMS))
