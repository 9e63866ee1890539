"""The reader of configuration files: from TOML to a checked Config, also while the daemon runs.

Unknown keys, wrong types and contradicting values are refused. The message has the full name of
the key and the allowed values.
"""

from __future__ import annotations

import dataclasses
import logging
import tomllib
import types
import typing
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..model import UNLIMITED
from . import value_rules
from .settings import Config

_log = logging.getLogger(__name__)


def load(path: str | None, **overrides: Any) -> Config:
    """The Config of the TOML file at `path`; None: all defaults. `overrides` win, unless None.

    Raises ConfigError with the file, the key and the allowed values.
    """
    table: dict[str, Any] = {}
    if path is not None:
        try:
            table = tomllib.loads(Path(path).read_text())
        except OSError as error:
            closed = isinstance(error, PermissionError)
            remedy = "it needs root; use sudo" if closed else "name a readable file"
            raise ConfigError(f"{path}: {error.strerror}; {remedy}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: not valid TOML: {error}") from None
    table |= {key: value for key, value in overrides.items() if value is not None}
    config = _build(Config, table, "")
    value_rules.check(config)
    return typing.cast(Config, config)


def from_table(table: dict[str, Any]) -> Config:
    """The Config whose `dataclasses.asdict` is `table`, also after a round trip through JSON.

    Raises ConfigError.
    """
    config = _build(Config, table, "")
    value_rules.check(config)
    return typing.cast(Config, config)


OBSOLETE = {"RuntimeConfig": ("clean",)}
"""Keys of earlier versions, by table. They have no effect, and a server with one starts."""

RESTART = (
    "listen", "metrics", "state_dir", "auth", "cgroup", "require", "slots",
    "scratch.kind", "console.head", "console.tail",
)  # fmt: skip
"""Keys that take effect at the next start of the daemon: sockets, uids, formats on disk. All other
keys take effect when the file is read again, a few of them for later sessions (docs/operations.md).
"""


def renewed(old: Config, new: Config) -> tuple[Config, list[str], list[str]]:
    """`new` with the values of `old` for the keys of RESTART; the names of the keys that changed;
    the names of the keys that will change at a restart."""
    before, after = (dict(_flat(dataclasses.asdict(config))) for config in (old, new))
    differ = sorted(
        name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
    )
    late = [name for name in differ if name.startswith(RESTART)]
    for name in RESTART:
        part, _, field_name = name.partition(".")
        if part not in {f.name for f in dataclasses.fields(Config)}:
            continue
        value = getattr(old, part)
        if field_name:
            unchanged = {field_name: getattr(value, field_name)}
            value = dataclasses.replace(getattr(new, part), **unchanged)
        new = dataclasses.replace(new, **{part: value})
    return new, [name for name in differ if name not in late], late


def _flat(table: dict[str, Any], where: str = "") -> typing.Iterator[tuple[str, Any]]:
    """Every value by its full name."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{where}{key}.")
        else:
            yield f"{where}{key}", value


def _build(cls: type[Any], table: Any, where: str, base: Any = None) -> Any:
    """`cls` (a dataclass) with the values of a TOML table; absent fields keep the value of `base`
    or, without one, the default of the field."""
    if not isinstance(table, dict):
        raise ConfigError(f"[{where}] must be a table")
    known = typing.get_type_hints(cls)
    for key in set(table) & set(OBSOLETE.get(cls.__name__, ())):
        _log.warning("%s.%s has no effect any more; remove it", where, key)
        table = {name: value for name, value in table.items() if name != key}
    if unknown := sorted(set(table) - set(known)):
        name = f"{where}.{unknown[0]}".lstrip(".")
        raise ConfigError(f"unknown key {name}; known here: {', '.join(sorted(known))}")
    defaults = {f.name: f.default for f in dataclasses.fields(cls)}
    values = {
        key: _value(known[key], value, f"{where}.{key}".lstrip("."), defaults[key])
        for key, value in table.items()
    }
    return cls(**values) if base is None else dataclasses.replace(base, **values)


def _value(kind: Any, value: Any, where: str, default: Any) -> Any:
    """`value` checked and converted to the annotated `kind` of a field."""
    if dataclasses.is_dataclass(kind):
        base = None if default is dataclasses.MISSING else default
        return _build(typing.cast(Any, kind), value, where, base)
    origin = typing.get_origin(kind)
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_value(str, item, where, None) for item in value)
    if origin is dict and isinstance(value, dict):
        inner = typing.get_args(kind)[1]
        missing = dataclasses.MISSING
        return {k: _value(inner, v, f"{where}.{k}", missing) for k, v in value.items()}
    if kind is int and value == "unlimited" and where.endswith(".stack"):
        return UNLIMITED
    if kind is float and type(value) in (int, float):
        return float(value)
    if not isinstance(kind, types.GenericAlias) and type(value) is kind:
        return value
    unlimited = ', or "unlimited"' if where.endswith(".stack") else ""
    raise ConfigError(f"{where} must be {_named(kind)}{unlimited}, not {value!r}")


def _named(kind: Any) -> str:
    names = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
    return names.get(kind) or ("a list of texts" if typing.get_origin(kind) is tuple else "a table")
