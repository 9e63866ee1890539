"""The shell texts behind "*", run for real: with this host's tools and a folder of their own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sandboxd.config.settings import Config
from sandboxd.errors import NotFound
from sandboxd.model import PATH, StepName
from sandboxd.runtimes import Runtimes, load
from sandboxd.runtimes.builtin import BUILTIN

from .installed import marked, not_available

Files = dict[str, str]
Done = subprocess.CompletedProcess[str]
Step = Callable[..., Done]

pytestmark = pytest.mark.slow  # compilers, for the most part


@pytest.fixture(scope="module")
def host() -> Runtimes:
    """The runtimes of this host."""
    return load(Config())


@pytest.fixture(params=["sh", pytest.param("bash", marks=pytest.mark.world)])
def shell(request: pytest.FixtureRequest) -> str:
    """Both shells that a step may get."""
    return f"/bin/{request.param}"


@pytest.fixture
def step(tmp_path: Path, host: Runtimes, shell: str) -> Step:
    """Runs a step of a runtime in a folder that stands for /home/work."""

    def run(name: str, step: StepName, files: Files | None = None) -> Done:
        try:
            runtime = host.resolve(name)
        except NotFound as error:
            not_available(name, str(error))
        for file, text in (files or {}).items():
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_text(text)
        return subprocess.run(
            [shell, "-c", getattr(runtime, step)],
            cwd=tmp_path,
            env={"HOME": str(tmp_path), "PATH": PATH, "LANG": "C.UTF-8"} | dict(runtime.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    return run


MAKEFILE = "main:\n\techo '#!/bin/sh' > main\n\techo 'echo made' >> main\n\tchmod +x main\n"

SCRIPTS = {
    "python": {"main.py": "import part; print(part.VALUE)", "part.py": "VALUE = 42"},
    "nodejs": {
        "main.js": "console.log(require('./part').value)",
        "part.js": "exports.value = 42",
    },
    "perl": {"main.pl": "print 42, qq(\\n)"},
    "ruby": {"main.rb": "require_relative 'part'; puts V", "part.rb": "V = 42"},
    "lua": {"main.lua": "print((require('part')))", "part.lua": "return 42"},
    "php": {"main.php": "<?php require 'part.php'; echo V;", "part.php": "<?php const V = 42;"},
    "shell": {"main.sh": ". ./part.sh; echo $V", "part.sh": "V=42"},
}

COMPILED = {
    "c": {
        "main.c": '#include "deep er/part.h"\n#include <math.h>\n#include <stdio.h>\n'
        'int main(int n, char **v) { printf("%d\\n", part() + (int)sqrt(n - 1)); return 3; }\n',
        "deep er/part.h": "int part(void);\n",
        'deep er/it\'s "a" $HOME\\ \n-é.c': '#include "part.h"\nint part(void) { return 42; }\n',
        ".cache/broken.c": "this is no source of the program\n",
    },
    "cpp": {
        "main.cc": "#include <iostream>\nint part();\n"
        "int main() { std::cout << part() << std::endl; return 3; }\n",
        "a b/part.cpp": "int part() { return 42; }\n",
    },
    "golang": {
        "main.go": 'package main\nimport ("fmt"; "os")\n'
        "func main() { fmt.Println(part()); os.Exit(3) }\n",
        "part.go": "package main\nfunc part() int { return 42 }\n",
        "main_test.go": "package main\n",
    },
    "rust": {
        "main.rs": 'mod part;\nfn main() { println!("{}", part::VALUE); std::process::exit(3) }\n',
        "part.rs": "pub const VALUE: i32 = 42;\n",
    },
    "java": {
        "Main.java": "class Main { public static void main(String[] a) {\n"
        "System.out.println(Part.VALUE); System.exit(3); } }\n",
        'a "b\\ c/Part.java': "class Part { static final int VALUE = 42; }\n",
    },
}

PROJECTS = {
    "golang": {
        "go.mod": "module example.org/it\n\ngo 1.18\n",
        "main.go": 'package main\nimport "example.org/it/part"\nfunc main() { println(part.V) }\n',
        "part/part.go": "package part\nconst V = 42\n",
    },
    "rust": {
        "Cargo.toml": '[package]\nname = "it"\nversion = "0.1.0"\nedition = "2021"\n',
        "src/main.rs": 'fn main() { eprintln!("42") }\n',
    },
    "java": {
        "one.java": "package main; class Main { public static void main(String[] a) {\n"
        "System.err.println(Part.V); } }\n",
        "two.java": "package main; class Part { static final int V = 42; }\n",
    },
    "nodejs": {"package.json": '{"main": "it/it.js"}', "it/it.js": "console.error(42)"},
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_and_its_parts_run_without_a_build(step: Step, name: str) -> None:
    built = step(name, "build", SCRIPTS[name])
    assert (built.returncode, built.stdout, built.stderr) == (0, "", "")
    ran = step(name, "exec")
    assert (ran.returncode, ran.stdout.strip()) == (0, "42"), ran.stderr


@pytest.mark.parametrize("name", COMPILED)
def test_all_sources_are_built_whatever_their_names(step: Step, name: str) -> None:
    built = step(name, "build", COMPILED[name])
    assert (built.returncode, built.stdout, built.stderr) == (0, "", "")
    ran = step(name, "exec")
    assert (ran.returncode, ran.stdout) == (3, "42\n"), ran.stderr


@pytest.mark.parametrize("name", PROJECTS)
def test_a_project_with_a_manifest_or_packages_is_built_offline(step: Step, name: str) -> None:
    built = step(name, "build", PROJECTS[name])
    assert built.returncode == 0, built.stderr
    ran = step(name, "exec")
    assert (ran.returncode, ran.stderr.strip()) == (0, "42")


@pytest.mark.parametrize("name", COMPILED)
def test_a_source_that_does_not_compile_fails_the_build(step: Step, name: str) -> None:
    main = next(iter(COMPILED[name]))
    built = step(name, "build", {main: "this is { no program\n"})
    assert built.returncode not in (0, 127) and built.stderr


@pytest.mark.parametrize("name", marked(runtime.name for runtime in BUILTIN))
@pytest.mark.parametrize("makefile", ["Makefile", "makefile", "GNUmakefile"])
def test_a_makefile_wins_in_every_build(step: Step, name: str, makefile: str) -> None:
    files = {makefile: MAKEFILE, **COMPILED.get(name, {})}
    built = step(name, "build", files)
    assert built.returncode == 0 and "chmod +x main" in built.stdout, built.stderr


def test_what_make_has_made_is_run(step: Step) -> None:
    step("c", "build", {"Makefile": MAKEFILE})
    assert step("c", "exec").stdout == "made\n"


def test_a_failing_makefile_fails_the_build(step: Step) -> None:
    assert step("python", "build", {"Makefile": "all:\n\texit 4\n"}).returncode == 2


@pytest.mark.parametrize("name", marked(runtime.name for runtime in BUILTIN))
def test_an_empty_folder_has_nothing_to_run_and_one_line_says_so(step: Step, name: str) -> None:
    ran = step(name, "exec")
    assert ran.returncode == 127 and ran.stdout == ""
    assert ran.stderr.startswith('sandboxd: exec "*" looked for') and ran.stderr.count("\n") == 1


@pytest.mark.parametrize("name", COMPILED)
def test_an_empty_folder_has_nothing_to_build_and_one_line_says_so(step: Step, name: str) -> None:
    built = step(name, "build")
    assert built.returncode == 127 and built.stdout == ""
    assert built.stderr.startswith('sandboxd: build "*" looked for a Makefile')
    assert built.stderr.count("\n") == 1


def test_a_directory_called_main_is_no_program(step: Step) -> None:
    assert step("c", "exec", {"main/file": ""}).returncode == 127


HAS_SETUPTOOLS = """\
from importlib.util import find_spec
assert all(map(find_spec, ["pip", "setuptools", "wheel"]))
"""
PACKAGE = {
    "main.py": "import it; print(it.VALUE)",
    "src/it/__init__.py": "VALUE = 42\n",
}
SETUP_PY = "from setuptools import setup\nsetup(packages=['it'], name='it', package_dir={'':'src'})"
PYPROJECT = (
    '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
    '[project]\nname = "it"\nversion = "1"\n'
)


@pytest.mark.parametrize(
    ("shell", "manifest"),
    [("sh", {"setup.py": SETUP_PY}), ("bash", {"pyproject.toml": PYPROJECT})],
    indirect=["shell"],
)
def test_a_python_package_is_installed_for_the_session(step: Step, manifest: Files) -> None:
    if step("python", "exec", {"main.py": HAS_SETUPTOOLS}).returncode:
        pytest.skip("this host's python3 has no pip, setuptools or wheel")
    built = step("python", "build", PACKAGE | manifest)
    assert built.returncode == 0, built.stderr
    assert step("python", "exec").stdout == "42\n"


def test_a_pyproject_that_only_configures_tools_installs_nothing(
    step: Step, tmp_path: Path
) -> None:
    assert step("python", "build", {"pyproject.toml": "[tool.ruff]\n"}).returncode == 0
    assert os.listdir(tmp_path) == ["pyproject.toml"]


def test_without_pip_the_build_says_so_and_the_program_still_runs(
    step: Step, tmp_path: Path
) -> None:
    # `python3 -m` looks in the folder first: a pip that cannot be imported stands for none.
    files = {"pip.py": "raise ImportError", "setup.py": SETUP_PY, "main.py": "print(42)"}
    built = step("python", "build", files)
    assert built.returncode == 0 and "has no pip" in built.stderr
    assert step("python", "exec").stdout == "42\n"


def test_without_make_all_sources_are_compiled_and_that_is_said(
    host: Runtimes, shell: str, tmp_path: Path
) -> None:
    """A fresh machine may have gcc and no make."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("find", "sed", "sort", "tr", "mktemp", "rm", "gcc", "as", "ld"):
        (tools / name).symlink_to(f"/usr/bin/{name}")
    work = tmp_path / "work"
    (work / "in clude").mkdir(parents=True)
    (work / "Makefile").write_text("all:\n\tfalse\n")
    (work / "in clude" / "n.h").write_text("#define N 0\n")
    (work / "src").mkdir()
    (work / "src" / "main.c").write_text('#include "n.h"\nint main(void) { return N; }\n')
    done = subprocess.run(
        [shell, "-c", host.resolve("c").build],
        cwd=work,
        env={"HOME": str(work), "PATH": str(tools), "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "make is not installed" in done.stderr
    assert subprocess.run([work / "main"]).returncode == 0
