"""The runtimes of this host: the built-in ones, as the configuration and the tools leave them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import replace

from ..config import Config, RuntimeConfig
from ..errors import ConfigError, NotFound
from . import image_names
from .builtin import BUILTIN
from .tools import JailView, MissingTool
from .values import Description, Runtime


class Runtimes:
    """What clients can name, and what is behind each name. Made by `load`."""

    def __init__(
        self, runtimes: dict[str, Runtime], names: dict[str, str], told: list[Description]
    ) -> None:
        """`runtimes` by name, those that are absent too; `names` leads aliases and names there."""
        self._runtimes = runtimes
        self._names = names
        self._told = {description.name: description for description in told}

    def resolve(self, image: str) -> Runtime:
        """The runtime that a client's image name means.

        Raises Invalid when it is no image name, NotFound (with `data["available"]`, the names
        there are) when no runtime has it, or the one that has it lacks a tool on this host.
        """
        for candidate in image_names.candidates(image):
            if name := self._names.get(candidate):
                return self._available(name)
        raise self._not_found(f"no runtime is called {image!r}")

    def describe(self) -> list[Description]:
        """All runtimes that are not hidden, the absent ones with the reason."""
        return list(self._told.values())

    def _available(self, name: str) -> Runtime:
        told = self._told[name]
        if not told.available:
            raise self._not_found(f"runtime {name} is not available on this host: {told.reason}")
        return self._runtimes[name]

    def _not_found(self, why: str) -> NotFound:
        available = [told.name for told in self._told.values() if told.available]
        there_are = f"available here: {', '.join(available) or 'none'}"
        return NotFound("environment image", f"{why}; {there_are}", {"available": available})


def load(config: Config, *, root: str = "/", daemon_path: str | None = None) -> Runtimes:
    """The runtimes of the host whose file system is at `root`.

    `daemon_path` is where else to look so as to say why a tool is not found: directories
    joined by ":", PATH if None. Raises ConfigError for runtimes that cannot go together.
    """
    view = JailView(config.rootfs, root)
    own = os.environ.get("PATH", "") if daemon_path is None else daemon_path
    elsewhere = own.split(":")
    runtimes = {runtime.name: runtime for runtime in _merged(config)}
    names = _names(config, runtimes)
    told = []
    for name, runtime in runtimes.items():
        found = {tool[0]: view.find(tool, elsewhere) for tool in runtime.tools}
        reason = "; ".join(tool.why for tool in found.values() if isinstance(tool, MissingTool))
        paths = {first: tool for first, tool in found.items() if isinstance(tool, str)}
        aliases = tuple(alias for alias in runtime.aliases if names[alias.lower()] == name)
        told.append(Description(name, runtime.title, aliases, not reason, reason, paths))
        runtimes[name] = _with_tools(runtime, paths)
    return Runtimes(runtimes, names, told)


def _merged(config: Config) -> Iterator[Runtime]:
    """Built-in and configured runtimes that are not hidden, built-in ones first."""
    known = {runtime.name: runtime for runtime in BUILTIN}
    for name in [*known, *(name for name in config.runtimes if name not in known)]:
        own = config.runtimes.get(name, RuntimeConfig())
        if name != name.lower() or not name.isprintable() or not name:
            raise ConfigError(f"[runtimes.{name}]: names are printable and in lower case")
        if any(not all(tool.split("|")) for tool in own.tools):
            raise ConfigError(f"runtimes.{name}.tools: a name is empty")
        if own.enabled:
            yield _overlaid(known.get(name, Runtime(name, f"{name} (configured)")), own)


def _overlaid(runtime: Runtime, own: RuntimeConfig) -> Runtime:
    """`runtime` with what the configuration says of it; a tool's alternatives are joined by |."""
    return replace(
        runtime,
        aliases=own.aliases or runtime.aliases,
        tools=tuple(tuple(tool.split("|")) for tool in own.tools) or runtime.tools,
        clean=own.clean or runtime.clean,
        build=own.build or runtime.build,
        exec=own.exec or runtime.exec,
        environ=own.environ or runtime.environ,
    )


def _names(config: Config, runtimes: dict[str, Runtime]) -> dict[str, str]:
    """Every name and alias, in lower case, with the runtime's name.

    The configuration may take an alias away from a built-in runtime; two that it claims
    itself, or another's name, would leave the choice to chance.
    """
    chosen = {name for name, own in config.runtimes.items() if own.aliases}
    claimed = {name: name for name in runtimes}
    for name in sorted(runtimes, key=lambda name: name not in chosen):
        for alias in (alias.lower() for alias in runtimes[name].aliases):
            holder = claimed.setdefault(alias, name)
            if holder != name and name in chosen:
                raise ConfigError(f"runtimes.{name}.aliases: {alias!r} belongs to {holder}")
    return claimed


def _with_tools(runtime: Runtime, paths: dict[str, str]) -> Runtime:
    """`runtime` with the paths of its tools in place of {NAME} in its commands."""
    texts = {step: getattr(runtime, step) for step in ("clean", "build", "exec")}
    for first, path in paths.items():
        word = shlex.quote(path)
        texts = {step: text.replace(f"{{{first}}}", word) for step, text in texts.items()}
    return replace(runtime, **texts)
