"""The catalogue of runtimes: built-in ones, those of the configuration, and the missing ones."""

from __future__ import annotations

import pytest

from sandboxd.config.settings import Config, RootfsConfig, RuntimeConfig
from sandboxd.errors import ConfigError, NotFound
from sandboxd.runtimes import Description, Runtimes, load

from .tree import Tree


def loaded(tree: Tree, **runtimes: RuntimeConfig) -> Runtimes:
    """The runtimes of a host with `tree` and these tables in its configuration."""
    return load(Config(runtimes=runtimes), root=tree.root, daemon_path="/root/bin")


def described(runtimes: Runtimes, name: str) -> Description:
    """The description of `name`."""
    return next(one for one in runtimes.describe() if one.name == name)


def test_a_runtime_with_its_tools_is_available_and_says_where_they_are(tree: Tree) -> None:
    tree.add({"/usr/bin/javac": 0o755, "/usr/local/bin/java": 0o755})
    description = described(loaded(tree), "java")
    assert description.available and description.reason == ""
    assert description.tools == {"javac": "/usr/bin/javac", "java": "/usr/local/bin/java"}


def test_a_runtime_that_lacks_one_tool_is_refused_with_the_reason(tree: Tree) -> None:
    runtimes = loaded(tree.add({"/usr/bin/java": 0o755, "/usr/bin/gcc": 0o755}))
    description = described(runtimes, "java")
    assert not description.available and description.reason.startswith(
        "looked for javac in /usr/local/sbin,"
    )
    assert description.tools == {"java": "/usr/bin/java"}
    with pytest.raises(NotFound) as caught:
        runtimes.resolve("openjdk:8")
    assert description.reason in str(caught.value) and "java" in str(caught.value)
    assert caught.value.data == {"available": ["c"]}


def test_a_tool_below_a_home_directory_is_no_tool_and_the_reason_says_so(tree: Tree) -> None:
    runtimes = loaded(tree.add({"/root/bin/go": 0o755}))
    with pytest.raises(NotFound, match="found at /root/bin/go, but the sandbox cannot see"):
        runtimes.resolve("golang")


def test_commands_name_the_alternative_that_was_found(tree: Tree) -> None:
    runtimes = loaded(tree.add({"/usr/bin/lua5.3": 0o755, "/usr/bin/sh": 0o755}))
    assert "exec /usr/bin/lua5.3 main.lua" in runtimes.resolve("lua").exec
    assert "exec /usr/bin/sh main.sh" in runtimes.resolve("shell").exec


def test_no_command_of_an_available_runtime_has_a_name_left_to_fill_in(tree: Tree) -> None:
    names = {name for description in loaded(tree).describe() for name in description.aliases}
    tools = ("python3", "node", "perl", "ruby", "lua5.4", "php", "bash")
    runtimes = loaded(tree.add({f"/usr/bin/{tool}": 0o755 for tool in tools}))
    for description in (one for one in runtimes.describe() if one.available):
        runtime = runtimes.resolve(description.name)
        for text in (runtime.build, runtime.exec):
            assert not any(f"{{{word}}}" in text for word in (*tools, *names))


def test_the_configuration_replaces_only_what_it_sets(tree: Tree) -> None:
    tree.add({"/usr/bin/clang": 0o755})
    before = loaded(tree.add({"/usr/bin/gcc": 0o755})).resolve("c")
    after = loaded(tree, c=RuntimeConfig(tools=("clang",), environ={"CC": "clang"})).resolve("c")
    assert after.tools == (("clang",),) and after.environ == {"CC": "clang"}
    assert (after.build, after.exec) == (before.build, before.exec)
    assert after.aliases == before.aliases


def test_a_new_runtime_has_what_the_configuration_says(tree: Tree) -> None:
    tree.add({"/opt/my zig/zig": 0o755})
    own = RuntimeConfig(
        aliases=("ziglang",), tools=("zig|/opt/my zig/zig",), build="{zig} build", exec="./main"
    )
    config = Config(rootfs=RootfsConfig(paths=("/usr", "/opt")), runtimes={"zig": own})
    runtime = load(config, root=tree.root, daemon_path="").resolve("lab/ZIGLANG:0.9")
    assert runtime.name == "zig" and runtime.tools == (("zig", "/opt/my zig/zig"),)
    assert runtime.build == "'/opt/my zig/zig' build"


def test_a_runtime_can_be_hidden_and_its_alias_given_to_another(tree: Tree) -> None:
    tree.add({"/usr/bin/gcc": 0o755, "/usr/bin/tcc": 0o755})
    tiny = RuntimeConfig(aliases=("c", "gcc"), tools=("tcc",), exec="./main")
    runtimes = loaded(tree, c=RuntimeConfig(enabled=False), tiny=tiny)
    assert "c" not in [one.name for one in runtimes.describe()]
    assert runtimes.resolve("gcc:latest").name == "tiny" == runtimes.resolve("c").name


def test_the_configuration_may_take_an_alias_from_a_built_in_runtime(tree: Tree) -> None:
    tree.add({"/usr/bin/gcc": 0o755, "/usr/bin/tcc": 0o755})
    # That c is configured too, but not its aliases, changes nothing.
    c = RuntimeConfig(environ={"CC": "gcc"})
    runtimes = loaded(tree, c=c, tiny=RuntimeConfig(aliases=("GCC",), tools=("tcc",)))
    assert runtimes.resolve("gcc").name == "tiny"
    assert "gcc" not in described(runtimes, "c").aliases


@pytest.mark.parametrize(
    ("runtimes", "word"),
    [
        ({"x": RuntimeConfig(aliases=("python",))}, "belongs to python"),
        ({"x": RuntimeConfig(aliases=("y",)), "z": RuntimeConfig(aliases=("Y",))}, "belongs to x"),
        ({"Zig": RuntimeConfig()}, "lower case"),
        ({"": RuntimeConfig()}, "lower case"),
        ({"x": RuntimeConfig(tools=("gcc|",))}, "runtimes.x.tools"),
    ],
)
def test_runtimes_that_leave_a_name_to_chance_are_refused(
    tree: Tree, runtimes: dict[str, RuntimeConfig], word: str
) -> None:
    with pytest.raises(ConfigError, match=word):
        loaded(tree, **runtimes)
