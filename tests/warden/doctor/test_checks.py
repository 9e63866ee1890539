"""The checks that stop the daemon before it starts, with their remedies."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxd.config import toml_file
from sandboxd.config.settings import SlotsConfig
from sandboxd.errors import ConfigError
from sandboxd.warden import code_view, listeners
from sandboxd.warden.doctor import checks

from ...each_case import each_case

UID = 719999


def test_python_that_others_cannot_read_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    python = tmp_path / "python3"
    python.write_text("")
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(ConfigError, match=r"/usr/bin/python3"):
        checks.readable(UID)


def test_slots_on_the_uid_of_an_account_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="is that of the account 'nobody' of this host"):
        checks.uids_free(SlotsConfig(first_uid=65000, count=1000))


@pytest.mark.parametrize(
    ("line", "clash"),
    [("kim:100000:65536", False), ("kim:524000:65536", True), ("kim:500000:24288", False),
     ("kim:525287:1", True), ("kim:525288:1", False), ("rubbish", False)],
)  # fmt: skip
def test_slots_in_a_subordinate_range_are_refused(
    monkeypatch: pytest.MonkeyPatch, line: str, clash: bool
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda path: f"{line}\n")
    if clash:
        with pytest.raises(ConfigError, match="first_uid"):
            checks.uids_free(SlotsConfig())
    else:
        checks.uids_free(SlotsConfig())


@each_case(
    ("listen", "auth", "message"),
    [
        ("0.0.0.0:80", "none", "refused"),
        ("192.168.1.1:80", "none", "refused"),
        ("[::]:80", "none", "refused"),
        ("nonsense", None, "HOST:PORT"),
        ("nonsense", "none", "HOST:PORT"),
        ("127.0.0.1:x", "none", "HOST:PORT"),
        (
            "127.0.0.1:99999",
            "none",
            "'127.0.0.1:99999': a port is a number from 0 to 65535",
        ),
    ],
)
def test_address_that_the_network_reaches_is_refused_without_authentication(
    listen: str, auth: str | None, message: str
) -> None:
    loaded = toml_file.load(None, listen=["unix:/run/x.sock", listen], auth=auth)
    with pytest.raises(ConfigError, match=message):
        listeners.check(loaded)


@pytest.mark.parametrize("listen", ["127.0.0.1:80", "[::1]:80", "localhost:80", "unix:/x"])
def test_address_that_only_this_host_reaches_is_accepted_without_authentication(
    listen: str,
) -> None:
    listeners.check(toml_file.load(None, listen=[listen], auth="none"))


@each_case("listen", ["0.0.0.0:80", "[::]:80", "192.168.1.1:80", "127.0.0.1:80"])
@each_case("auth", [None, "keypair"])
def test_any_address_is_accepted_with_keypairs(listen: str, auth: str | None) -> None:
    listeners.check(toml_file.load(None, listen=[listen], auth=auth))


@pytest.fixture
def passable() -> Iterator[Path]:
    """A directory that others may pass through, which no other pytest closes meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_first_directory_that_is_closed_to_a_uid_is_named(passable: Path) -> None:
    inner = passable / "closed" / "inner"
    inner.mkdir(parents=True)
    (passable / "closed").chmod(0o700)
    assert code_view.first_closed(str(inner), UID) == str(passable / "closed")
    (passable / "closed").chmod(0o755)
    assert code_view.first_closed(str(inner), UID) is None


def test_code_in_a_closed_directory_can_be_imported_by_the_api(passable: Path) -> None:
    """In a child, which becomes an unprivileged process as the api does."""
    closed = passable / "closed"
    closed.mkdir()
    code = closed / "code"
    code.mkdir(mode=0o755)
    (code / "sandboxd_test_module.py").write_text("VALUE = 42\n")
    closed.chmod(0o700)
    state = passable / "state"
    state.mkdir()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            sys.path.append(str(code))
            code_view.open_imports(UID, str(state / "view"))
            with contextlib.suppress(OSError):  # the code is not to be changed by this way
                (state / "view" / "0" / "sandboxd_test_module.py").write_text("VALUE = 43\n")
            os.setgroups([])
            os.setgid(UID)
            os.setuid(UID)
            import sandboxd_test_module  # type: ignore[import-not-found]  # just written

            status = 0 if sandboxd_test_module.VALUE == 42 else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
