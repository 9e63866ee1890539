"""The detection of a folder's runtime, from the names of its files alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

_MAINS = {
    "main.c": "c",
    "main.cpp": "cpp", "main.cc": "cpp", "main.cxx": "cpp",
    "main.py": "python",
    "main.go": "golang",
    "main.rs": "rust",
    "main.js": "nodejs",
    "Main.java": "java", "main/Main.java": "java",
    "main.rb": "ruby",
    "main.pl": "perl",
    "main.lua": "lua",
    "main.php": "php",
}  # fmt: skip
"""The files that the default exec starts, or that the default build begins with."""

_MANIFESTS = {
    "Cargo.toml": "rust",
    "go.mod": "golang",
    "setup.py": "python",
    "pyproject.toml": "python",
    "package.json": "nodejs",
}

_SUFFIXES = {
    "cpp": "cpp", "cc": "cpp", "cxx": "cpp",
    "c": "c",
    "java": "java",
    "rs": "rust",
    "go": "golang",
    "py": "python",
    "js": "nodejs",
    "rb": "ruby",
    "pl": "perl",
    "lua": "lua",
    "php": "php",
}  # fmt: skip

_MAKEFILES = ("GNUmakefile", "makefile", "Makefile")


def detect(names: Iterable[str]) -> str | None:
    """The runtime for a folder with files of these names (relative, with "/"); None: unclear.

    A main program at the top decides, then a manifest, then the C or C++ sources beside a Makefile,
    then main.sh, then the commonest kind of source, and a shell script only as the last resort.
    Hidden files and directories do not count.
    """
    files = {name for name in (n.removeprefix("./") for n in names) if not _hidden(name)}
    for table in (_MAINS, _MANIFESTS):
        for marker, runtime in table.items():
            if marker in files:
                return runtime
    return _by_sources(files)


def _by_sources(files: set[str]) -> str | None:
    counts = Counter(_SUFFIXES[suffix] for suffix in map(_suffix, files) if suffix in _SUFFIXES)
    if files.intersection(_MAKEFILES):
        # Scripts beside a Makefile serve the build. A program with C++ sources is linked as C++.
        for runtime in ("cpp", "c"):
            if counts[runtime]:
                return runtime
    if "main.sh" in files:
        return "shell"
    if counts:
        order = list(_SUFFIXES.values())
        return min(counts, key=lambda runtime: (-counts[runtime], order.index(runtime)))
    return "shell" if any(_suffix(name) == "sh" for name in files) else None


def _suffix(name: str) -> str:
    """The text behind the last dot of the last component; "": there is no suffix."""
    stem, dot, suffix = name.rpartition("/")[2].rpartition(".")
    return suffix if stem and dot else ""


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))
