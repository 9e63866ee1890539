"""What this host can run: languages by the names that clients send, and what "*" means for each.

A runtime is not an image. All jails show the same read-only host directories; a runtime is a
set of aliases, the tools that it needs, and default commands. It is offered when its tools are
found where a jail can see them (find.py); which they are is a table (builtin.py) that the
configuration may change and extend.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from ..config import Config, RuntimeConfig
from ..errors import Invalid, NotFound
from .builtin import BUILTIN, MARKERS, Runtime
from .find import Finder

__all__ = ["Description", "Runtime", "Runtimes", "detect", "load"]

IMAGE_MAX = 512


@dataclass(frozen=True, slots=True)
class Description:
    """A runtime as `sandboxd runtimes` shows it. `reason`: why it is absent, else ""."""

    name: str
    title: str
    available: bool
    reason: str
    aliases: tuple[str, ...] = ()
    tools: dict[str, str] = field(default_factory=dict)


class Runtimes:
    """All runtimes of this host's configuration, present or not."""

    def __init__(self, runtimes: Iterable[Runtime], finder: Finder) -> None:
        self._runtimes = {runtime.name: runtime for runtime in runtimes}
        self._described = {name: _describe(r, finder) for name, r in self._runtimes.items()}
        self._names = {
            alias.lower(): runtime.name
            for runtime in self._runtimes.values()
            for alias in (*runtime.aliases, runtime.name)
        }

    def resolve(self, image: str) -> Runtime:
        """The runtime that a client means by `image`, such as "cr.backend.ai/stable/python:3.9".

        Raises NotFound for one that is unknown or absent, Invalid for what can be no name.
        """
        if not 0 < len(image) <= IMAGE_MAX or not image.isprintable():
            raise Invalid(f"an image name has 1 to {IMAGE_MAX} printable characters")
        available = sorted(name for name, d in self._described.items() if d.available)
        name = next((self._names[c] for c in candidates(image) if c in self._names), None)
        if name is None or not self._described[name].available:
            why = f"this host has no {name}: {self._described[name].reason}" if name else "unknown"
            raise NotFound(
                "environment image",
                f"{image}: {why}; available: {', '.join(available)}",
                {"available": available},
            )
        return self._runtimes[name]

    def describe(self) -> list[Description]:
        """All of them, by name."""
        return [self._described[name] for name in sorted(self._described)]


def load(config: Config, finder: Finder | None = None) -> Runtimes:
    """The built-in runtimes with what [runtimes.NAME] of the configuration says."""
    runtimes = {runtime.name: runtime for runtime in BUILTIN}
    for name, given in config.runtimes.items():
        if not given.enabled:
            runtimes.pop(name, None)
            continue
        runtimes[name] = _changed(runtimes.get(name, Runtime(name, name)), given)
    return Runtimes(runtimes.values(), finder or Finder(config.rootfs))


def _changed(runtime: Runtime, given: RuntimeConfig) -> Runtime:
    """`runtime` with the fields that the configuration sets."""
    return replace(
        runtime,
        aliases=(*runtime.aliases, *given.aliases),
        tools=tuple((tool,) for tool in given.tools) or runtime.tools,
        clean=given.clean or runtime.clean,
        build=given.build or runtime.build,
        exec=given.exec or runtime.exec,
        environ={**runtime.environ, **given.environ},
    )


def _describe(runtime: Runtime, finder: Finder) -> Description:
    found, missing = {}, []
    for alternatives in runtime.tools:
        path, why = finder.find(alternatives)
        if path:
            found[alternatives[0]] = path
        else:
            missing.append(why)
    return Description(
        runtime.name, runtime.title, not missing, "; ".join(missing), runtime.aliases, found
    )


def candidates(image: str) -> list[str]:
    """The names that `image` may stand for, most exact first.

    Registry, repository, digest and tag are let go of, in this order: a host has one version of
    a language, and clients written for a cluster ask for tags that it never had.
    """
    whole = image.strip().lower()
    path = whole.partition("@")[0]
    last = path.rpartition("/")[2]
    base = last.partition(":")[0]
    return list(dict.fromkeys([whole, path, last, base, re.sub(r"^kernel-", "", base)]))


def detect(names: Iterable[str]) -> str | None:
    """The runtime that a folder with the files `names` is for, None when nothing tells.

    The first marker of builtin.MARKERS that a file matches decides, files nearest to the top
    before deeper ones.
    """
    files = sorted(names, key=lambda name: (name.count("/"), name))
    for pattern, runtime in MARKERS:
        if any(re.fullmatch(pattern, name) for name in files):
            return runtime
    return None
