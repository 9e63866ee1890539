"""Secrets of the host that its copy for jails lacks, and the bounds of the copy."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sandboxd.jail import public_files, shown_files, syscalls
from sandboxd.jail.shown_files import Selection

from .package_host import NOTHING, SECRET, Host


def test_file_that_an_administrator_has_changed_stays_hidden(host: Host) -> None:
    host.ship("/etc/tool.conf", "password =\n").write_text(f"password = {SECRET}\n")
    assert host.copy() == {}
    assert host.report.left_out == {"/etc/tool.conf": "changed"}


def test_file_with_the_checksum_of_another_path_stays_hidden(host: Host) -> None:
    host.ship("/etc/one.conf", "text\n")
    host.ship("/etc/two.conf", "other\n").write_text("text\n")
    assert host.copy() == {"/etc/one.conf": "text\n"}


def test_file_of_no_package_stays_hidden(host: Host) -> None:
    host.ship("/etc/tool/tool.conf", "")
    host.put("/etc/tool/token", SECRET)
    host.put("/var/lib/tool/token", SECRET)
    host.put("/etc/environment", SECRET)
    assert host.copy() == {"/etc/tool/tool.conf": ""}


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o660, 0o711])
def test_file_that_not_everybody_may_read_stays_hidden_and_is_reported(
    host: Host, mode: int
) -> None:
    host.ship("/etc/tool.conf", "shipped\n", mode)
    host.put("/etc/named", SECRET, mode)
    assert host.copy(Selection(("named",))) == {}
    assert host.report.left_out == {"/etc/named": "closed", "/etc/tool.conf": "closed"}


def test_directory_that_not_everybody_may_enter_stays_hidden(host: Host) -> None:
    host.ship("/etc/closed/deep/tool.conf", "shipped\n")
    host.put("/etc/closed/token", SECRET)
    (host.root / "etc/closed").chmod(0o750)
    assert host.copy(Selection(("closed",))) == {}


def test_directory_that_everybody_may_enter_and_nobody_list_shows_no_names(host: Host) -> None:
    host.put("/etc/known/deep/key-of-a-customer", SECRET)
    (host.root / "etc/known/deep").chmod(0o711)
    assert host.copy(Selection(("known",))) == {}


@pytest.mark.parametrize(
    "path",
    [
        "/etc/shadow", "/etc/ssh/sshd_config", "/etc/ssl/private/key", "/etc/sudoers.d/x",
        "/etc/tool/server.key", "/etc/tool/db-password", "/etc/tool/api-token.json",
        "/etc/tool/id_rsa", "/etc/tool/tool.conf.dpkg-old", "/var/lib/tool/secrets/x",
    ],
)  # fmt: skip
def test_place_of_secrets_stays_hidden_even_if_a_package_ships_the_file(
    host: Host, path: str
) -> None:
    if path.startswith("/etc/"):
        host.ship(path, "shipped\n")
    else:
        host.ship_data(path, "shipped\n")
    assert host.copy() == {}


def test_key_in_a_built_in_directory_stays_hidden(host: Host) -> None:
    host.put("/etc/ssl/certs/ca.pem", "public\n")
    host.put("/etc/ssl/certs/server.key", SECRET)
    assert host.copy(Selection(("ssl/certs",))) == {"/etc/ssl/certs/ca.pem": "public\n"}


def test_hard_link_to_a_file_of_a_closed_directory_stays_hidden(host: Host) -> None:
    secret = host.put("/root/token.txt", SECRET)
    secret.parent.chmod(0o700)
    os.link(secret, host.root / "etc/known")
    assert host.copy(Selection(("known",))) == {}
    assert host.report.left_out == {"/etc/known": "linked"}


@pytest.mark.parametrize("mode", [0o666, 0o664])
def test_built_in_file_that_others_can_change_stays_hidden(host: Host, mode: int) -> None:
    host.put("/etc/known", SECRET, mode)
    assert host.copy(Selection(("known",))) == {}
    assert host.report.left_out == {"/etc/known": "writable"}


@pytest.mark.root
def test_built_in_file_of_another_user_stays_hidden(host: Host) -> None:
    os.chown(host.put("/etc/known", SECRET), 1234, 1234)
    assert host.copy(Selection(("known",))) == {}


def test_link_in_place_of_a_packages_file_is_not_followed(host: Host) -> None:
    host.put("/etc/shadow", "shipped\n", 0o600)
    host.ship("/etc/tool.conf", "shipped\n").unlink()
    host.link("/etc/tool.conf", "/etc/shadow", package=False)
    assert host.copy() == {}


def test_link_in_place_of_a_directory_is_not_followed(host: Host) -> None:
    host.ship("/etc/tool/tool.conf", "shipped\n").unlink()
    (host.root / "etc/tool").rmdir()
    host.put("/srv/tool.conf", "shipped\n")
    host.link("/etc/tool", str(host.root / "srv"), package=False)
    assert host.copy() == {}


def test_hard_link_to_a_secret_shows_nothing_and_a_copy_shares_no_inode(host: Host) -> None:
    secret = host.put("/etc/shadow", SECRET, 0o644)
    host.ship("/etc/tool.conf", "shipped\n").unlink()
    os.link(secret, host.root / "etc/tool.conf")
    same = host.ship("/etc/same.conf", "shipped\n")
    assert host.copy() == {"/etc/same.conf": "shipped\n"}
    assert (host.target / "etc/same.conf").stat().st_ino != same.stat().st_ino


def test_device_or_pipe_in_place_of_a_packages_file_is_not_opened_for_ever(host: Host) -> None:
    host.ship("/etc/tool.conf", "shipped\n").unlink()
    os.mkfifo(host.root / "etc/tool.conf")
    assert host.copy() == {}


CHANGES: dict[str, Callable[[Path], object]] = {
    "written": lambda place: place.write_text(SECRET),
    "replaced": lambda place: os.replace(_new(place), place),
    "appended": lambda place: _append(place),
}


def _append(place: Path) -> None:
    with open(place, "a") as file:
        file.write(SECRET)


def _new(place: Path) -> Path:
    new = place.with_suffix(".new")
    new.write_text(SECRET)
    return new


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("when", ["opened", "read"])
def test_file_that_changes_during_the_copy_shows_no_byte_of_the_change(
    host: Host,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], object],
    when: str,
) -> None:
    place = host.ship("/etc/tool.conf", "shipped\n")
    openat2, md5 = syscalls.openat2, hashlib.md5

    def opened(*arguments: int) -> int:
        fd = openat2(*arguments)  # type: ignore[arg-type]  # of any types
        change(place)
        return fd

    def read(content: bytes, **options: bool) -> object:
        checksum = md5(content, **options)
        change(place)
        return checksum

    if when == "opened":
        monkeypatch.setattr(syscalls, "openat2", opened)
    else:
        monkeypatch.setattr(hashlib, "md5", read)
    assert SECRET not in "".join(host.copy().values())


def test_paths_that_lie_in_one_another_are_bound_once(host: Host) -> None:
    host.put("/var/lib/tool/deep/x", "x")
    host.copy(Selection(paths=("/var/lib/tool", "/var/lib/too*", "/var/lib/tool/deep")))
    assert host.shown.binds == ("/var/lib/tool",)


def test_path_of_a_runtime_below_var_lib_has_a_place_to_be_bound_to(host: Host) -> None:
    host.put("/var/lib/ghc/package.conf.d/package.cache", "made on the host")
    assert host.copy(Selection(paths=("/var/lib/gh*", "/opt/none"))) == {}
    assert host.shown.binds == ("/var/lib/ghc",)
    assert (host.target / "var/lib/ghc").is_dir()


@pytest.mark.root
def test_data_of_another_user_behind_a_link_stays_hidden(host: Host) -> None:
    data = host.put("/var/lib/service/state", SECRET)
    host.link("/usr/lib/service", "../../var/lib/service")
    os.chown(data, 1234, 1234)
    assert host.copy(replace(NOTHING, visible=("/usr",))) == {}


def test_accounts_of_the_host_are_never_copied_whatever_is_named(host: Host) -> None:
    for name in ("passwd", "group", "hosts", "hostname", "resolv.conf"):
        host.put(f"/etc/{name}", SECRET)
    assert host.copy(Selection(("*",))) == {}
    for path in ("etc/passwd", "etc/group"):
        assert (host.target / path).read_text() == ""


def test_file_that_is_too_large_for_the_memory_is_left_out(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(public_files, "FILE_MAX", 10)
    host.put("/etc/large", "x" * 11)
    assert host.copy(Selection(("large",))) == {}
    assert host.report.left_out == {"/etc/large": "large"}


def test_copy_of_many_files_ends_at_its_bound_and_names_the_rest(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown_files, "SIZE_MAX", 350)
    for name in "abc":
        host.put(f"/var/lib/huge/{name}", name * 100)
    host.link("/usr/share/huge", "/var/lib/huge")
    assert set(host.copy(Selection(visible=("/usr",)))) == {"/var/lib/huge/a", "/var/lib/huge/b"}
    assert host.report.left_out == {"/var/lib/huge/c": "large"}


def test_search_of_a_directory_with_many_files_ends_at_its_bound(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown_files, "ENTRIES_MAX", 4)
    for number in range(9):
        host.put(f"/etc/known/{number}", "")
    assert len(host.copy(Selection(("known",)))) == 3
    assert "/etc/known/3" in host.report.left_out


def test_deep_directory_ends_the_search_and_not_the_daemon(host: Host) -> None:
    host.put("/etc/known" + "/d" * 100 + "/x", "deep")
    host.put("/etc/known/near", "near\n")
    assert host.copy(Selection(("known",))) == {"/etc/known/near": "near\n"}


@pytest.mark.parametrize("missing", ["names", "text", "mode"])
def test_files_that_vanish_while_apt_is_at_work_are_left_out(
    host: Host, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    host.put("/etc/known/file", "text\n")
    host.link("/etc/known/link", "file", package=False)
    method = getattr(public_files.PublicFiles, missing)

    def removed_first(files: object, path: str) -> object:
        shutil.rmtree(host.root / "etc/known", ignore_errors=True)
        return method(files, path)

    monkeypatch.setattr(public_files.PublicFiles, missing, removed_first)
    assert set(host.copy(Selection(("known",)))) <= {"/etc/known/file"}


def test_diverted_file_is_shown_only_with_the_text_of_its_package(host: Host) -> None:
    """dpkg-divert(1) moves a file of one package away, and another package or an administrator
    puts a file in its place."""
    host.ship("/etc/tool.conf", "shipped\n").rename(host.root / "etc/tool.conf.distrib")
    host.put("/etc/tool.conf", SECRET)
    assert host.copy() == {}
    assert host.report.left_out == {"/etc/tool.conf": "changed"}


def test_data_behind_a_link_that_differs_from_its_package_stays_hidden(host: Host) -> None:
    host.ship_data("/var/lib/tool/words", "shipped\n").write_text(SECRET)
    host.link("/usr/share/words", "/var/lib/tool/words")
    assert host.copy(Selection(visible=("/usr",))) == {}
    assert host.report.left_out == {"/var/lib/tool/words": "changed"}
