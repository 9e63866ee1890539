"""The catalogue of runtimes: the built-in ones, the configuration's changes, the host's tools."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import replace

from ..config.settings import Config, RuntimeConfig
from ..errors import ConfigError, NotFound
from . import image_names
from .builtin import BUILTIN
from .tools import JailView, MissingTool
from .values import Description, Runtime


class Runtimes:
    """The runtimes by their names and aliases. See `load`."""

    def __init__(
        self,
        runtimes: dict[str, Runtime],
        names: dict[str, str],
        descriptions: list[Description],
    ) -> None:
        """`runtimes`, by name, include those that are not available. `names` maps each name and
        alias to a name of a runtime."""
        self._runtimes = runtimes
        self._names = names
        self._descriptions = {description.name: description for description in descriptions}

    def resolve(self, image: str) -> Runtime:
        """The runtime for a client's image name.

        Raises Invalid for a text that is no image name. Raises NotFound, with the available names
        in `data["available"]`, for a name of no runtime or of a runtime that lacks a tool.
        """
        for candidate in image_names.candidates(image):
            if name := self._names.get(candidate):
                return self._available(name)
        raise self._not_found(f"no runtime is called {image!r}")

    def describe(self) -> list[Description]:
        """All runtimes that are not hidden; those that are not available with the reason."""
        return list(self._descriptions.values())

    def _available(self, name: str) -> Runtime:
        description = self._descriptions[name]
        if not description.available:
            reason = f"runtime {name} is not available on this host: {description.reason}"
            raise self._not_found(reason)
        return self._runtimes[name]

    def _not_found(self, reason: str) -> NotFound:
        names = [each.name for each in self._descriptions.values() if each.available]
        message = f"{reason}; available here: {', '.join(names) or 'none'}"
        return NotFound("environment image", message, {"available": names})


def load(config: Config, *, root: str = "/", daemon_path: str | None = None) -> Runtimes:
    """The runtimes of the host whose file system is at `root`.

    `daemon_path` has more directories, joined by ":", for the reason why a tool is not found; None:
    the PATH of this process. Raises ConfigError for runtimes whose names collide.
    """
    view = JailView(config.rootfs, root, shown_paths(config))
    path = os.environ.get("PATH", "") if daemon_path is None else daemon_path
    elsewhere = path.split(":")
    runtimes = {runtime.name: runtime for runtime in _configured(config)}
    names = _names(config, runtimes)
    descriptions = []
    for name, runtime in runtimes.items():
        tools = {tool[0]: view.find(tool, elsewhere) for tool in runtime.tools}
        reason = "; ".join(tool.why for tool in tools.values() if isinstance(tool, MissingTool))
        paths = {first: tool for first, tool in tools.items() if isinstance(tool, str)}
        aliases = tuple(alias for alias in runtime.aliases if names[alias.lower()] == name)
        descriptions.append(
            Description(name, runtime.title, aliases, not reason, reason, paths, runtime.packages)
        )
        runtimes[name] = _with_tools(runtime, paths)
    return Runtimes(runtimes, names, descriptions)


_OWN = ("/dev", "/home", "/proc", "/run", "/sys", "/tmp")
"""Directories that a jail makes itself, or hides."""


def shown_paths(config: Config) -> tuple[str, ...]:
    """The files outside /usr that the runtimes of the configuration need. Raises ConfigError."""
    paths = (path for runtime in _configured(config) for path in runtime.paths)
    return tuple(dict.fromkeys(paths))


def _may_be_shown(path: str) -> bool:
    parts = path.split("/")
    return len(parts) > 2 and parts[0] == "" and ".." not in parts and f"/{parts[1]}" not in _OWN


def _configured(config: Config) -> Iterator[Runtime]:
    """Built-in and new runtimes that are not hidden, built-in ones first."""
    builtin = {runtime.name: runtime for runtime in BUILTIN}
    for name in [*builtin, *(name for name in config.runtimes if name not in builtin)]:
        changes = config.runtimes.get(name, RuntimeConfig())
        if name != name.lower() or not name.isprintable() or not name:
            raise ConfigError(f"[runtimes.{name}]: names are printable and in lower case")
        if any(not all(tool.split("|")) for tool in changes.tools):
            raise ConfigError(f"runtimes.{name}.tools: a name is empty")
        if wrong := [path for path in changes.paths if not _may_be_shown(path)]:
            raise ConfigError(
                f"runtimes.{name}.paths: {wrong[0]!r} is no absolute path of files that a jail can "
                f"show; it must lie below a directory other than {', '.join(_OWN)}"
            )
        if changes.enabled:
            runtime = builtin.get(name, Runtime(name, f"{name} (configured)"))
            yield _with_changes(runtime, changes)


def _with_changes(runtime: Runtime, changes: RuntimeConfig) -> Runtime:
    """`runtime` with the changes of the configuration. "|" joins the alternatives of a tool."""
    return replace(
        runtime,
        aliases=changes.aliases or runtime.aliases,
        tools=tuple(tuple(tool.split("|")) for tool in changes.tools) or runtime.tools,
        build=changes.build or runtime.build,
        exec=changes.exec or runtime.exec,
        environ=changes.environ or runtime.environ,
        paths=(*runtime.paths, *changes.paths),
    )


def _names(config: Config, runtimes: dict[str, Runtime]) -> dict[str, str]:
    """Every name and alias, in lower case, with the name of its runtime.

    The configuration may take an alias from a built-in runtime. An alias that is the name of
    another runtime, or that the configuration gives to two runtimes, is an error: the choice would
    be arbitrary.
    """
    with_own_aliases = {name for name, changes in config.runtimes.items() if changes.aliases}
    owners = {name: name for name in runtimes}
    for name in sorted(runtimes, key=lambda name: name not in with_own_aliases):
        for alias in (alias.lower() for alias in runtimes[name].aliases):
            owner = owners.setdefault(alias, name)
            if owner != name and name in with_own_aliases:
                raise ConfigError(f"runtimes.{name}.aliases: {alias!r} belongs to {owner}")
    return owners


def _with_tools(runtime: Runtime, paths: dict[str, str]) -> Runtime:
    """`runtime` with the paths of its tools in place of {NAME} in its commands."""
    texts = {step: getattr(runtime, step) for step in ("build", "exec")}
    for first, path in paths.items():
        word = shlex.quote(path)
        texts = {step: text.replace(f"{{{first}}}", word) for step, text in texts.items()}
    return replace(runtime, **texts)
