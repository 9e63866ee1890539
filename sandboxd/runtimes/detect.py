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

_MORE = {
    "main.f90": "fortran", "main.f": "fortran",
    "main.adb": "ada",
    "main.d": "d-gdc",
    "main.nim": "nim",
    "main.cr": "crystal",
    "main.vala": "vala",
    "main.hs": "haskell", "Main.hs": "haskell",
    "main.ml": "ocaml",
    "main.pas": "pascal", "main.pp": "pascal",
    "main.cob": "cobol", "main.cbl": "cobol",
    "main.cs": "csharp",
    "main.kt": "kotlin",
    "Main.scala": "scala",
    "main.erl": "erlang", "main.escript": "erlang-escript",
    "main.exs": "elixir",
    "main.ts": "typescript", "tsconfig.json": "typescript",
    "Main.hx": "haxe",
    "main.asm": "asm-nasm", "main.s": "asm-gas", "main.ll": "llvm-ir",
    "main.sv": "verilog", "main.vhdl": "vhdl", "main.vhd": "vhdl",
    "main.R": "r",
    "main.raku": "raku",
    "main.tcl": "tcl", "main.exp": "expect",
    "main.sml": "sml",
    "main.scm": "scheme-guile", "main.rkt": "racket",
    "main.lisp": "lisp-sbcl", "main.clj": "clojure",
    "main.groovy": "groovy",
    "main.pro": "prolog-swi",
    "main.fth": "forth", "main.4th": "forth",
    "main.a68": "algol68",
    "main.pike": "pike",
    "main.bf": "brainfuck",
    "main.coffee": "coffeescript",
    "main.bas": "basic",
    "main.rexx": "rexx",
    "main.awk": "awk", "main.sed": "sed", "main.bc": "bc", "main.dc": "dc", "main.jq": "jq",
    "main.sql": "sql",
    "main.zsh": "zsh", "main.csh": "tcsh", "main.tcsh": "tcsh",
    "CMakeLists.txt": "cmake",
}  # fmt: skip
"""Files of further languages. They count only where nothing above does. Names that two
languages have are absent: main.m (Objective-C, Octave), main.v (Verilog, V), main.fs (F#, Forth).
"""

_MAKEFILES = ("GNUmakefile", "makefile", "Makefile")


def detect(names: Iterable[str]) -> str | None:
    """The runtime for a folder with files of these names (relative, with "/"); None: unclear.

    A main program at the top decides, then a manifest, then the C or C++ sources beside a Makefile,
    then main.sh, then the commonest kind of source, and a shell script only as the last resort.
    Where these say nothing, the main program of a further language decides. Hidden files and
    directories do not count.
    """
    files = {name for name in (n.removeprefix("./") for n in names) if not _hidden(name)}
    for table in (_MAINS, _MANIFESTS):
        for marker, runtime in table.items():
            if marker in files:
                return runtime
    return _by_sources(files) or next((_MORE[name] for name in _MORE if name in files), None)


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
