"""The copy of the host's files that jails show: what it has."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from sandboxd.jail import package_files
from sandboxd.jail.shown_files import Report, Selection

from .package_host import NOTHING, SECRET, Host, md5


def test_unchanged_file_of_a_package_is_copied_with_its_mode_and_time(host: Host) -> None:
    place = host.ship("/etc/tool/tool.conf", "colour = no\n", 0o755)
    os.utime(place, (1, 1))
    assert host.copy() == {"/etc/tool/tool.conf": "colour = no\n"}
    status = (host.target / "etc/tool/tool.conf").stat()
    assert (status.st_mode & 0o7777, status.st_mtime) == (0o555, 1)


def test_data_of_a_package_below_var_lib_is_copied(host: Host) -> None:
    host.ship_data("/var/lib/tool/words", "one two\n")
    assert host.copy() == {"/var/lib/tool/words": "one two\n"}


def test_link_of_a_named_directory_shows_its_text_and_not_what_it_leads_to(host: Host) -> None:
    host.put("/root/mine", SECRET)
    host.put("/etc/tool/tool.conf", "named\n")
    host.link("/etc/tool/mine", "/root/mine", package=False)
    copied = host.copy(Selection(("tool",)))
    assert copied == {"/etc/tool/tool.conf": "named\n", "/etc/tool/mine": "-> /root/mine"}


def test_link_of_a_package_is_copied_where_it_leads_to_something_that_is_shown(host: Host) -> None:
    host.ship("/etc/tool/real.conf", "text\n")
    host.link("/etc/tool.conf", "tool/real.conf")
    host.link("/etc/tool.bin", "/usr/share/tool")
    host.link("/etc/tool.key", "/root/key")
    host.link("/etc/tool.mine", "tool/real.conf", package=False)
    assert host.copy() == {
        "/etc/tool/real.conf": "text\n",
        "/etc/tool.conf": "-> tool/real.conf",
        "/etc/tool.bin": "-> /usr/share/tool",
    }


def test_built_in_name_is_shown_even_if_it_was_changed(host: Host) -> None:
    host.ship("/etc/services", "shipped\n").write_text("changed\n")
    assert host.copy(Selection(("services",))) == {"/etc/services": "changed\n"}


def test_path_of_a_runtime_is_shown_without_files_that_were_changed_or_added(host: Host) -> None:
    """Tokens are kept in R's Renviron.site; a file that is named itself is made on the host."""
    host.ship("/etc/R/Renviron.site", "").write_text(SECRET)
    host.ship("/etc/R/ldpaths", "shipped\n")
    host.put("/etc/R/Renviron", "EDITOR=vi\n")
    host.put("/etc/R/added.site", SECRET)
    assert host.copy(Selection(paths=("/etc/R", "/etc/R/Renviron"))) == {
        "/etc/R/ldpaths": "shipped\n",
        "/etc/R/Renviron": "EDITOR=vi\n",
    }
    assert host.report.left_out == {"/etc/R/Renviron.site": "changed"}


def test_file_that_ucf_has_installed_is_shown_unchanged_where_a_runtime_names_it(
    host: Host,
) -> None:
    host.ship("/etc/other", "")
    host.put("/etc/tool/same.ini", "installed\n")
    host.put("/etc/tool/changed.ini", SECRET)
    checksum, names = md5("installed\n"), ("same.ini", "changed.ini")
    lines = [f"{checksum}  /etc/tool/{name}\n" for name in names]
    host.put(package_files.UCF, "".join(lines))
    assert host.copy(Selection(paths=("/etc/tool",))) == {
        "/etc/other": "",
        "/etc/tool/same.ini": "installed\n",
    }


def test_profile_is_shown_only_as_its_template_is(host: Host) -> None:
    host.put("/usr/share/base-files/profile", "umask 022\n")
    profile = host.put("/etc/profile", "umask 022\n")
    selection = Selection(paths=("/etc/profile",))
    assert host.copy(selection) == {"/etc/profile": "umask 022\n"}
    host.target = host.target.parent / "again"
    profile.write_text(f"export TOKEN={SECRET}\n")
    assert host.copy(selection) == {}


def test_names_of_the_operator_are_places_for_mounts_and_nothing_of_them_is_copied(
    host: Host,
) -> None:
    host.put("/etc/mine/secret", SECRET)
    host.put("/etc/my.cfg", SECRET)
    host.ship("/etc/mine/shipped", SECRET)
    host.put("/etc/passwd", SECRET)
    host.link("/etc/my.link", "mine", package=False)
    selection = Selection(("mine",), own=("mine", "my.*", "none", "passwd"))
    assert host.copy(selection) == {"/etc/my.cfg": ""}
    assert host.shown.binds == ("/etc/mine", "/etc/my.cfg")
    assert (host.target / "etc/mine").is_dir()


def test_data_that_links_of_visible_directories_lead_to_is_shown(host: Host) -> None:
    host.put("/var/lib/aspell/en.rws", "words")
    host.put("/var/lib/dir/deep/a", "a")
    host.put("/var/lib/dir/b", SECRET, 0o640)
    host.put("/var/lib/aspell/other", "no link leads here")
    host.put("/etc/environment", SECRET)
    host.link("/usr/lib/aspell/en.rws", "/var/lib/aspell/en.rws")
    host.link("/usr/lib/dir", "/var/lib/dir")
    host.link("/usr/lib/environment", "/etc/environment")
    assert host.copy() == {}
    host.target = host.target.parent / "again"
    assert host.copy(replace(NOTHING, visible=("/usr",))) == {
        "/var/lib/aspell/en.rws": "words",
        "/var/lib/dir/deep/a": "a",
    }


def test_links_of_etc_on_the_way_of_a_visible_link_are_shown(host: Host) -> None:
    host.put("/usr/share/dict/english", "word")
    host.link("/usr/share/dict/words", "/etc/dictionaries/words")
    host.link("/etc/dictionaries/words", "/usr/share/dict/english", package=False)
    host.link("/etc/dictionaries/other", "/usr/share/dict/english", package=False)
    host.link("/usr/share/token", "/etc/token-link")
    host.link("/etc/token-link", "/etc/token", package=False)
    host.put("/etc/token", SECRET)
    assert host.copy(replace(NOTHING, visible=("/usr",))) == {
        "/etc/dictionaries/words": "-> /usr/share/dict/english",
        "/etc/token-link": "-> /etc/token",
    }


def test_links_that_lead_in_a_circle_end_the_search(host: Host) -> None:
    host.link("/usr/share/one", "/etc/one")
    host.link("/etc/one", "/etc/two", package=False)
    host.link("/etc/two", "/etc/one", package=False)
    assert host.copy(replace(NOTHING, visible=("/usr",))).keys() == {"/etc/one", "/etc/two"}


def test_without_files_of_packages_only_the_names_are_shown(host: Host) -> None:
    host.ship("/etc/tool.conf", "shipped\n")
    host.put("/etc/named", "named\n")
    assert host.copy(Selection(("named",), packages=False)) == {"/etc/named": "named\n"}


def test_host_without_dpkg_shows_the_names_and_the_paths_of_runtimes(tmp_path: Path) -> None:
    (tmp_path / "root" / "etc").mkdir(parents=True)
    host = Host(tmp_path / "root", tmp_path / "copy", Report())
    host.put("/etc/named", "named\n")
    host.put("/etc/R/Renviron", "runtime\n")
    host.put("/etc/other", SECRET)
    copied = host.copy(Selection(("named",), paths=("/etc/R",)))
    assert not host.report.has_packages
    assert copied == {"/etc/named": "named\n", "/etc/R/Renviron": "runtime\n"}


def test_link_of_alternatives_leads_to_what_is_shown_or_nowhere(host: Host) -> None:
    host.put("/root/mine", SECRET)
    host.link("/etc/alternatives/tool", "/usr/bin/tool.one", package=False)
    host.link("/etc/alternatives/mine", "/root/mine", package=False)
    assert host.copy(Selection(("alternatives",))) == {
        "/etc/alternatives/tool": "-> /usr/bin/tool.one",
        "/etc/alternatives/mine": "-> /root/mine",
    }
