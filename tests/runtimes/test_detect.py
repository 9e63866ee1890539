"""The detection of a runtime by the names of the files in a session."""

from __future__ import annotations

import hypothesis
from hypothesis import strategies as st

from sandboxd.runtimes import detect
from sandboxd.runtimes.builtin import BUILTIN
from sandboxd.runtimes.detect import _MORE

from ..each_case import each_case


@each_case(
    ("names", "runtime"),
    [
        ("main.c", "c"),
        ("./main.c", "c"),
        ("hello.c hello.h", "c"),
        ("main.cc", "cpp"),
        ("a.cpp b.c c.c", "c"),
        ("Makefile a.cpp b.c c.c", "cpp"),
        ("Makefile src/a.c src/b.c gen.py check.py tools.py run.sh", "c"),
        ("makefile src/a.c main.sh", "c"),
        ("GNUmakefile one.py", "python"),
        ("main.py Makefile native.c", "python"),
        ("setup.py pkg/__init__.py", "python"),
        ("pyproject.toml src/pkg/__init__.py", "python"),
        ("one.py", "python"),
        ("main.go", "golang"),
        ("go.mod cmd/x/x.go", "golang"),
        ("Cargo.toml src/main.rs", "rust"),
        ("main.rs", "rust"),
        ("package.json index.js", "nodejs"),
        ("main.js", "nodejs"),
        ("Main.java Other.java", "java"),
        ("main/Main.java", "java"),
        ("org/example/App.java", "java"),
        ("main.rb", "ruby"),
        ("main.pl", "perl"),
        ("main.lua", "lua"),
        ("main.php", "php"),
        ("main.sh helper.py", "shell"),
        ("helper.sh helper.py", "python"),
        ("one.sh", "shell"),
        ("a.py b.lua c.lua", "lua"),
        ("main.hs Lib.hs", "haskell"),
        ("main.R data.csv", "r"),
        ("main.R helper.py", "python"),
        ("CMakeLists.txt README.md", "cmake"),
        ("CMakeLists.txt src/a.c", "c"),
        ("main.f90 Makefile", "fortran"),
        ("main.m", None),
        ("data.csv", None),
        ("Makefile", None),
        ("README.md .hidden/main.c .main.py", None),
        ("src/.c c .c", None),
        ("", None),
    ],
)
def test_the_names_in_a_folder_tell_the_runtime(names: str, runtime: str | None) -> None:
    assert detect(names.split()) == runtime
    assert detect(reversed(names.split())) == runtime


def test_every_file_of_a_further_language_names_a_built_in_runtime() -> None:
    assert set(_MORE.values()) <= {runtime.name for runtime in BUILTIN}
    assert all(detect([name]) == runtime for name, runtime in _MORE.items())


@hypothesis.given(st.lists(st.text(alphabet="am/.cpyshINj\n", max_size=12)))
def test_any_names_give_a_built_in_runtime_or_none(names: list[str]) -> None:
    assert detect(names) in {None, *(runtime.name for runtime in BUILTIN)}
