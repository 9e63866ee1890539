"""The configuration: defaults, the keys of a file, and the messages for mistakes."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import pytest

from sandboxd.config import settings, toml_file, value_rules
from sandboxd.errors import ConfigError
from sandboxd.model import GIB, MIB

from ..each_case import each_case


def load(tmp_path: Path, text: str) -> settings.Config:
    path = tmp_path / "sandboxd.toml"
    path.write_text(text)
    return toml_file.load(str(path))


def test_no_file_gives_the_defaults() -> None:
    assert toml_file.load(None) == settings.Config()


def test_tables_change_only_what_they_name(tmp_path: Path) -> None:
    loaded = load(
        tmp_path, f"[limits.build]\nwall_s = 60\nmemory = {2 * GIB}\n[scratch]\nsize = {64 * MIB}\n"
    )
    assert loaded.limits.build.wall_s == 60.0
    assert loaded.limits.build.memory == 2 * GIB
    assert loaded.limits.build.pids == settings.Config().limits.build.pids
    assert loaded.limits.exec == replace(settings.Config().limits.exec, disk=64 * MIB)
    assert loaded.ceiling.disk == 64 * MIB, "there is no room for more"
    assert loaded.scratch.size == 64 * MIB
    assert loaded.scratch.inodes == settings.Config().scratch.inodes


def test_runtime_table_sets_aliases_and_environment(tmp_path: Path) -> None:
    loaded = load(
        tmp_path, '[runtimes.zig]\naliases = ["ziglang"]\ntools = ["zig"]\nexec = "./main"\n'
        '[runtimes.zig.environ]\nZIG = "1"\n',
    )  # fmt: skip
    assert loaded.runtimes["zig"].aliases == ("ziglang",)
    assert loaded.runtimes["zig"].environ == {"ZIG": "1"}


def test_options_of_the_command_line_win(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('listen = ["127.0.0.1:1"]\nauth = "none"\n')
    loaded = toml_file.load(str(path), listen=["unix:/x"], auth=None)
    assert loaded.listen == ("unix:/x",)
    assert loaded.auth == "none"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("colour = 1", "colour"),
        ("[limits.exec]\nwall = 3", "limits.exec.wall"),
        ("[limits.exec]\nwall_s = 'long'", "limits.exec.wall_s must be a number"),
        ("[limits.exec]\npids = 1.5", "limits.exec.pids must be a whole number"),
        ("[limits.exec]\npids = true", "limits.exec.pids"),
        ("limits = 3", "limits"),
        ("listen = 'x'", "listen must be a list of texts"),
        ("listen = [1]", "listen"),
        ("auth = 'open'", "auth"),
        ("rate_limit = 0", "rate_limit"),
        ("rate_limit = 'many'", "rate_limit must be a whole number"),
        ("[sessions]\nidle_s = -1", "sessions"),
        ("[sessions]\nidle_s = 'long'", "sessions.idle_s must be a number"),
        ("state_dir = 'relative'", "state_dir"),
        ("[scratch]\nkind = 'zfs'", "scratch.kind"),
        ("[scratch]\nsize = 1", "scratch.size"),
        ("[slots]\nfirst_uid = 0", "slots.first_uid"),
        ("[limits.exec]\nwall_s = 0", "wall_s must be above 0"),
        (
            "[limits.exec]\nwall_s = 999999",
            "limits.exec.wall_s is 999999, above ceiling.wall_s, which is 3600; lower the limit",
        ),
        (
            "[limits.exec]\nstack = 'unlimited'\n[ceiling]\nstack = 8388608",
            'limits.exec.stack is "unlimited", above ceiling.stack, which is 8388608',
        ),
        ("[limits.exec]\nstack = 'lots'", "a whole number, or \"unlimited\", not 'lots'"),
        ("[rootfs]\npaths = ['/usr', 'lib']", "rootfs.paths must be absolute paths, .* not 'lib'"),
        ("[runtimes.c]\nrun = 'x'", "runtimes.c.run"),
        ("[limits.exec]\npids = 0", "limits.exec.pids must be above 0, not 0"),
        ("[admission.owner]\nmemory = 0", "admission.owner.memory must be above 0, not 0.0"),
        ("[console]\nhead = 0", "console.head must be above 0, not 0"),
        ("[http]\nrequests = 0", "http.requests must be 1 or more, not 0"),
        ("[stop]\nruns = 'kill'", 'stop.runs must be "keep" or "drain", not \'kill\''),
        ("log = 'xml'", 'log must be "text" or "json", not \'xml\''),
        ("cgroup = '/a'", "cgroup must be a path below /sys/fs/cgroup, not '/a'"),
        ("cgroup = 'a/../b'", "cgroup must be a path below /sys/fs/cgroup"),
        ("[console]\nkeep_s = -1", "console.keep_s must be 0 or more, in seconds, not -1.0"),
        ("[folders]\ntoken_s = -5", "folders.token_s must be above 0, in seconds, not -5.0"),
        ("[folders]\ncount = -1", "folders.count must be 0 or more, not -1"),
        ("[folders]\ninodes = 0", "folders.inodes must be between 16 and 2147483648, not 0"),
        ("[scratch]\ninodes = 15", "scratch.inodes must be between 16 and 2147483648, not 15"),
        ("[admission]\ntasks = 1.5", "admission.tasks must be above 0 and at most 1, not 1.5"),
        ("[slots]\ncount = 65537", "slots.count must be between 1 and 65536, not 65537"),
        ("a = ", "not valid TOML"),
    ],
)
def test_mistake_names_the_key(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load(tmp_path, text)


def test_key_of_an_earlier_version_is_accepted_without_effect_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loaded = load(tmp_path, "[runtimes.zig]\nclean = 'rm -rf zig-out'\nexec = './main'")
    assert loaded.runtimes["zig"] == settings.RuntimeConfig(exec="./main")
    assert caplog.messages == ["runtimes.zig.clean has no effect any more; remove it"]


@each_case("rule", value_rules.RULES)
def test_defaults_keep_every_rule_and_every_rule_names_a_key(rule: value_rules.Rule) -> None:
    values = list(value_rules.values(settings.Config(), rule.key))
    assert values and all(rule.holds(value) for _, value in values)


def test_each_number_has_a_rule() -> None:
    whole = settings.Config()
    ruled = {key for key, _, _ in value_rules.bounded(whole)}
    numbers = {key for key, value in value_rules.leaves("", whole) if type(value) in (int, float)}
    assert numbers - ruled == set()


@pytest.mark.parametrize("text", ["[console]\nkeep_s = 0", "[folders]\ncount = 0"])
def test_zero_that_the_documentation_names_is_accepted(tmp_path: Path, text: str) -> None:
    load(tmp_path, text)


def test_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        toml_file.load(str(tmp_path / "absent"))


def test_configuration_sent_as_json_is_taken_up_as_it_is() -> None:
    runtimes = {"x": settings.RuntimeConfig(tools=("sh",), environ={"A": "b"})}
    whole = dataclasses.replace(settings.Config(), runtimes=runtimes, log_level="debug")
    assert toml_file.from_table(json.loads(json.dumps(dataclasses.asdict(whole)))) == whole


def test_what_is_sent_is_checked_again() -> None:
    table = dataclasses.asdict(settings.Config()) | {"auth": "open"}
    with pytest.raises(ConfigError, match="auth"):
        toml_file.from_table(table)


def test_only_a_restart_changes_sockets_uids_and_what_is_on_disk(tmp_path: Path) -> None:
    new = load(
        tmp_path,
        """
        listen = ["unix:/y"]
        rate_limit = 5
        [slots]
        count = 7
        [scratch]
        kind = "tmpfs"
        size = 33554432
        [console]
        tail = 4096
        runs_kept = 9
        [runtimes.x]
        tools = ["sh"]
        """,
    )
    old = settings.Config()
    taken, changed, late = toml_file.renewed(old, new)
    assert late == ["console.tail", "listen", "scratch.kind", "slots.count"]
    assert {"console.runs_kept", "rate_limit", "runtimes.x.tools", "scratch.size"} <= {*changed}
    assert (taken.listen, taken.slots, taken.scratch.kind) == (old.listen, old.slots, "image")
    assert (taken.scratch.size, taken.console.tail) == (33554432, old.console.tail)
    assert (taken.console.runs_kept, taken.rate_limit, list(taken.runtimes)) == (9, 5, ["x"])


@each_case("name", toml_file.RESTART)
def test_what_waits_for_a_restart_exists(name: str) -> None:
    value: object = settings.Config()
    for part in name.split("."):
        value = getattr(value, part)


def test_the_same_again_changes_nothing() -> None:
    assert toml_file.renewed(settings.Config(), settings.Config()) == (settings.Config(), [], [])
