"""Fixtures with real jails, marks of the tests that need root, and a directory for each process."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from multiprocessing import util
from typing import Any

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]  # it has none

from sandboxd.jail import chroot, syscalls

from .effort import examples
from .entries import WARM_S
from .needs import WORLD, missing, somewhere
from .sandbox import BareWarden, Sandbox, lease

NEED_ROOT = (
    # real jails and real daemons
    "tests/e2e/", "tests/escape/", "tests/fault/", "tests/selftest/",
    # mounts, and files and processes of other users
    "tests/cli/test_keypair.py", "tests/warden/test_private_cleanup.py",
    "tests/warden/doctor/test_guarantees.py", "tests/warden/slots/test_images.py",
    "tests/warden/slots/test_slots.py", "tests/warden/slots/test_state_directory.py",
    "tests/warden/test_uid_lease.py",
)  # fmt: skip
"""Directories and modules whose tests need root, besides those that use the fixtures below."""

ALONE = {
    "tests/e2e/test_doctor.py": "nothing of any doctor may be left on the host",
    "tests/warden/doctor/test_guarantees.py": "tries what the whole host holds",
    "tests/e2e/test_selftest.py": "looks for what an attack has left anywhere on the host",
    "tests/escape/test_attacks.py": "looks for remains of an attack anywhere on the host",
    "tests/e2e/test_leaks.py": "the sweep of another daemon would remove its leaks",
    "tests/e2e/test_leaks_of_others.py": "the same",
    "tests/e2e/test_soak.py": "compares what the host holds before and after",
}
"""Modules whose tests look at the whole host, so that no two of them may run at the same time."""

# No bounds of time: a busy machine is no fault of the code.
hypothesis.settings.register_profile(
    "sandboxd", max_examples=examples(100), deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)  # fmt: skip
hypothesis.settings.load_profile("sandboxd")


def pytest_configure(config: pytest.Config) -> None:
    """Give each process that runs tests a directory for temporary files of its own.

    Private daemons make their directories there, so a test sees those of its own daemons only.
    """
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        os.environ["PYTEST_DEBUG_TEMPROOT"] = tempfile.gettempdir()  # pytest's own stays there
        tempfile.tempdir = tempfile.mkdtemp(prefix="sandboxd-test-")
        os.chmod(tempfile.tempdir, 0o711)  # the api is not root
        os.environ["TMPDIR"] = tempfile.tempdir


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the directory for temporary files."""
    # it has a directory there, and would remove it too late
    util._exit_function()  # type: ignore[attr-defined]  # private, and nothing else does it
    if tempfile.tempdir and "sandboxd-test-" in tempfile.tempdir:
        shutil.rmtree(tempfile.tempdir, ignore_errors=True)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark a test that needs root."""
    fixtures = getattr(item, "fixturenames", ())
    if item.nodeid.startswith(NEED_ROOT) or "own_mounts" in fixtures:
        item.add_marker("root")
    if item.get_closest_marker("root") and os.geteuid() != 0:
        item.add_marker(pytest.mark.skip("only root can do this"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests with the mark `world` to scripts/test-world, unless `-m` names the mark."""
    if WORLD or "world" in config.getoption("markexpr"):
        return
    left_out = [item for item in items if item.get_closest_marker("world")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("world")]


class ByModule(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist has no types for it
    """The distribution of tests to processes: one process runs a whole module.

    Its tests share a daemon, a warden or files that they have read, and the host takes only so many
    daemons at once. Marks xdist_group do not work: pytest 9.2 does not read the ids that
    pytest-xdist 3.8 writes (issue 1386 of pytest-xdist).
    """

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return "alone" if module in ALONE else module

    def _assign_work_unit(self, node: Any) -> None:
        """Give a process the longest of the modules that are left: short ones fill the gaps at the
        end."""
        longest = min(self.workqueue, key=lambda unit: (_rank(unit), -len(self.workqueue[unit])))
        self.workqueue.move_to_end(longest, last=False)
        super()._assign_work_unit(node)


LONG = ("alone", "tests/fault/", "tests/e2e/", "tests/escape/")


def _rank(unit: str) -> int:
    """The place of a unit of work among those of other directories."""
    return next((rank for rank, begin in enumerate(LONG) if unit.startswith(begin)), len(LONG))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByModule:
    """Distribute the tests by module."""
    return ByModule(config, log)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Take the modules and tests, which stay, out of what each search for garbage looks at."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose program is not there; in CI it must be."""
    for marker in item.iter_markers("needs"):
        for program in marker.args:
            if not somewhere(program):
                missing(f"the host has no {program}")


@pytest.fixture(scope="session")
def own_mounts() -> None:
    """This process mounts in a namespace of its own, as the warden does."""
    chroot.own_mounts(propagation=syscalls.MS_SLAVE)


@pytest.fixture(scope="session")
def warden(own_mounts: None) -> Iterator[BareWarden]:
    """A warden without a loop."""
    with tempfile.TemporaryDirectory(prefix="sandboxd-test-") as state_dir:
        os.chmod(state_dir, 0o711)
        bare = BareWarden(state_dir)
        yield bare
        for slot in list(bare.resources.slots.leased.values()):
            bare.free(slot)
        for slot in bare.resources.slots.emptying.values():
            slot.uid_lease.close()
        bare.resources.host_files.remove()
        bare.resources.slots.close()
        bare.resources.hierarchy.remove()


@pytest.fixture(autouse=True)
def finished_jobs(request: pytest.FixtureRequest) -> Iterator[None]:
    """The background jobs of a test are over when the next one gets the warden."""
    yield
    if "warden" in request.fixturenames:
        request.getfixturevalue("warden").jobs.finish()


@pytest.fixture
def sandbox(warden: BareWarden, request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """A slot, leased for one test."""
    # A shim that waits has been forked before the test changes a module.
    warden.entries.warm_s = 0.0 if "monkeypatch" in request.fixturenames else WARM_S
    leased = lease(warden)
    yield leased
    leased.end_warm()
    warden.free(leased.slot)
