"""The search for the tools of a runtime in the file system that a jail shows."""

from __future__ import annotations

import pytest

from sandboxd.config.settings import RootfsConfig
from sandboxd.runtimes.tools import JailView, MissingTool

from .tree import Entry, Tree


def find(tree: Tree, *names: str, elsewhere: str = "", rootfs: RootfsConfig | None = None) -> str:
    """The path, or the reason."""
    tool = JailView(rootfs or RootfsConfig(), tree.root).find(names, elsewhere.split(":"))
    return tool.why if isinstance(tool, MissingTool) else tool


@pytest.mark.parametrize(
    "entries",
    [
        {"/usr/bin/gcc": 0o755},
        {"/usr/bin/gcc": 0o751},  # a binary need not be readable
        {"/usr/bin/gcc": "gcc-12", "/usr/bin/gcc-12": 0o755},
        {"/usr/bin/gcc": "../lib/gcc/gcc", "/usr/lib/gcc/gcc": 0o755},
        {"/usr/bin/gcc": "/usr/../usr/./lib//gcc", "/usr/lib/gcc": 0o755},
        {
            "/usr/bin/gcc": "/etc/alternatives/gcc",
            "/etc/alternatives/gcc": "/usr/lib/gcc",
            "/usr/lib/gcc": 0o755,
        },
        {"/bin": "usr/bin", "/usr/bin/gcc": "/bin/gcc-12", "/usr/bin/gcc-12": 0o755},
    ],
)
def test_a_tool_is_found_through_links_that_stay_visible(
    tree: Tree, entries: dict[str, Entry]
) -> None:
    assert find(tree.add(entries), "gcc") == "/usr/bin/gcc"


def test_the_order_of_path_decides(tree: Tree) -> None:
    tree.add({"/usr/bin/gcc": 0o755, "/usr/local/bin/gcc": 0o755})
    assert find(tree, "gcc") == "/usr/local/bin/gcc"


def test_an_earlier_alternative_wins_wherever_it_is(tree: Tree) -> None:
    tree.add({"/usr/local/bin/lua": 0o755, "/usr/bin/lua5.4": 0o755})
    assert find(tree, "lua5.4", "lua") == "/usr/bin/lua5.4"
    assert find(tree, "lua5.3", "lua") == "/usr/local/bin/lua"


def test_what_cannot_be_used_gives_way_to_what_can(tree: Tree) -> None:
    tree.add({"/usr/local/bin/gcc": "/root/gcc", "/root/gcc": 0o755, "/usr/bin/gcc": 0o755})
    assert find(tree, "gcc") == "/usr/bin/gcc"


def test_a_tool_that_is_nowhere_names_the_places(tree: Tree) -> None:
    why = find(tree, "lua5.4", "lua", elsewhere="/opt/bin")
    assert why.startswith("looked for lua5.4 or lua in /usr/local/sbin, /usr/local/bin,")


def test_a_tool_that_is_nowhere_is_not_blamed_on_merged_directories(tree: Tree) -> None:
    tree.add({"/usr/sbin/sh": 0o755, "/sbin": "usr/sbin"})
    assert find(tree, "go").startswith("looked for go in")


def test_a_tool_of_the_daemons_path_below_a_home_has_a_reason_of_its_own(tree: Tree) -> None:
    tree.add({"/root/.cargo/bin/rustc": 0o755})
    why = find(tree, "rustc", elsewhere="relative::/usr/bin:/root/.cargo/bin")
    assert "found at /root/.cargo/bin/rustc" in why and "rootfs.paths: /usr," in why


def test_a_visible_tool_beside_the_jails_path_is_reported(tree: Tree) -> None:
    tree.add({"/usr/games/fortune": 0o755})
    why = find(tree, "fortune", elsewhere="/usr/games")
    assert why == (
        "found at /usr/games/fortune, but in the sandbox PATH is "
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    )


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        (
            {"/usr/bin/gcc": "/opt/gcc/bin/gcc", "/opt/gcc/bin/gcc": 0o755},
            "a link that leads to /opt/gcc/bin/gcc",
        ),
        # /etc/alternatives is visible, the rest of /etc is not.
        (
            {"/usr/bin/gcc": "/etc/private/gcc", "/etc/private/gcc": 0o755},
            "a link that leads to /etc/private/gcc",
        ),
        ({"/usr/bin/gcc": "/usrlocal/gcc", "/usrlocal/gcc": 0o755}, "leads to /usrlocal/gcc"),
        ({"/usr/bin/gcc": "gcc-13"}, "leads to /usr/bin/gcc-13, which is not there"),
        ({"/usr/bin/gcc": "gcc"}, "more than 40 links"),
        ({"/usr/bin/gcc": 0o750}, "may not be executed by users other"),
        ({"/usr/bin/gcc/file": 0o755}, "/usr/bin/gcc is no file"),
    ],
)
def test_a_tool_that_the_jail_could_not_run_is_missing(
    tree: Tree, entries: dict[str, Entry], why: str
) -> None:
    reason = find(tree.add(entries), "gcc")
    assert reason.startswith(("found at /usr/bin/gcc", "/usr/bin/gcc")) and why in reason


def test_a_directory_that_only_root_may_enter_hides_what_is_in_it(tree: Tree) -> None:
    tree.add({"/usr/bin/gcc": "../lib/own/gcc", "/usr/lib/own/gcc": 0o755})
    tree.chmod("/usr/lib/own", 0o700)
    assert "/usr/lib/own may not be entered" in find(tree, "gcc")


def test_more_of_the_host_in_rootfs_makes_more_tools_visible(tree: Tree) -> None:
    tree.add({"/usr/bin/zig": "/opt/zig/zig", "/opt/zig/zig": 0o755, "/opt/ada/ada": 0o755})
    rootfs = RootfsConfig(paths=("/usr", "/opt/zig/"))
    assert find(tree, "zig", rootfs=rootfs) == "/usr/bin/zig"
    assert find(tree, "/opt/zig/zig", rootfs=rootfs) == "/opt/zig/zig"
    assert "cannot see" in find(tree, "/opt/ada/ada", rootfs=rootfs)
    assert find(tree, "/opt/zig/none", rootfs=rootfs) == "looked for /opt/zig/none; not there"
