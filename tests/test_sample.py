"""The sample configuration names every knob, with its default: it is the operator's reference."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sandboxd import runtimes
from sandboxd.config import settings, toml_file
from sandboxd.config.network_profiles import NetworkConfig, ProfileConfig
from sandboxd.warden.shared_resources import compile_filters

from .each_case import each_case

SAMPLE = Path(__file__).parent.parent / "systemd" / "config.toml"


PROFILE_NUMBERS = (
    "connections", "bytes", "rate", "connect_s", "idle_s", "owner.connections", "owner.bytes",
    "owner.rate",
)  # fmt: skip

SETTINGS = re.sub(r"^#(?! )|^#(?=    )", "", SAMPLE.read_text(), flags=re.MULTILINE)
"""All of it: "# " begins what is for people, "#" alone what is for sandboxd."""


def knobs(values: dict[str, Any], where: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting by its full name."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from knobs(value, f"{where}{key}.")
        else:
            yield f"{where}{key}", list(value) if isinstance(value, tuple) else value


INSTALLED = {"sessions.idle_s": 604800.0}
"""The settings of the sample that are in force as it is installed, and are no defaults."""


def test_sample_as_installed_only_ends_idle_sessions() -> None:
    values = dict(knobs(dataclasses.asdict(toml_file.load(str(SAMPLE)))))
    assert values == dict(knobs(dataclasses.asdict(settings.Config()))) | INSTALLED


def test_sample_names_every_setting_with_its_default(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(SETTINGS)
    taken = toml_file.load(str(path))
    assert taken.runtimes["zig"].tools == ("zig",)  # an example
    named = tomllib.loads(SETTINGS)
    profiles = named.pop("network")["profiles"]  # an example, and none by default
    assert taken.network.profiles.keys() == profiles.keys() == {"packages"}
    defaults = dataclasses.asdict(ProfileConfig())
    profile = dict(knobs(dataclasses.asdict(taken.network.profiles["packages"])))
    assert all(profile[name] == value for name, value in knobs(defaults) if name in PROFILE_NUMBERS)
    assert dict(knobs(profiles["packages"])).keys() == profile.keys()
    fields = {f.name for f in dataclasses.fields(settings.RuntimeConfig)}
    assert named.pop("runtimes")["zig"].keys() == fields
    wanted = dict(knobs(dataclasses.asdict(settings.Config())))
    assert wanted.keys() == dict(knobs(named)).keys(), "systemd/config.toml names other knobs"
    without = dataclasses.replace(taken, runtimes={}, network=NetworkConfig())
    values = dict(knobs(dataclasses.asdict(without)))
    values["ceiling.cpus"] = wanted["ceiling.cpus"]  # the host's
    wrong = {name for name in wanted if INSTALLED.get(name, wanted[name]) != values[name]}
    assert not wrong, f"systemd/config.toml has another default of {sorted(wrong)}"


def lines() -> Iterator[tuple[str, str]]:
    """The table and the text of each setting, which may have several lines."""
    table, text = "", ""
    for line in SETTINGS.splitlines():
        if line.startswith("["):
            table = line
        elif not line.startswith("# ") and line.strip():
            text += line + "\n"
            try:
                tomllib.loads(text)
            except tomllib.TOMLDecodeError:
                continue  # the value goes on in the next line
            if not table.startswith("[network."):  # a profile counts as a whole
                yield table, text
            text = ""


@each_case(("table", "text"), lines())
def test_daemon_takes_each_setting_of_the_sample_alone(
    tmp_path: Path, table: str, text: str
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f"{table}\n{text}")
    loaded = toml_file.load(str(path))
    compile_filters(loaded)
    if (loaded.runtimes, loaded.rootfs) != (settings.Config().runtimes, settings.Config().rootfs):
        runtimes.load(loaded)


def test_values_in_the_documentation_are_the_defaults() -> None:
    operations = (SAMPLE.parent.parent / "docs/operations.md").read_text()
    blocks = re.findall(r"```toml\n(.*?)```", operations, re.DOTALL)
    shown = dict(knobs(tomllib.loads(max(blocks, key=len))))
    examples = ("require.", "rootfs.", "runtimes.")
    defaults = dict(knobs(tomllib.loads(SETTINGS)))
    wrong = {
        name: value for name, value in shown.items()
        if not name.startswith(examples) and defaults.get(name) != value
    }  # fmt: skip
    assert not wrong, "docs/operations.md shows other values than the defaults"
    assert len(shown) > 50
