"""The built-in runtimes: names, tools, and the shell commands that "*" stands for.

The commands are for a POSIX shell in /home/work, which is $HOME too. They follow what
Backend.AI's runners do by default: a makefile wins for the build, and what cannot be found ends
with 127 and one line that says what was looked for. There is no network in a jail, so nothing
here fetches anything. File names may have blanks: lists go through find -print0 and "$@".
"""

from __future__ import annotations

from dataclasses import dataclass, field

Tools = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Runtime:
    """A language. `tools`: of each tuple one must be there. Commands: "" does nothing."""

    name: str
    title: str
    aliases: tuple[str, ...] = ()
    tools: Tools = ()
    clean: str = ""
    build: str = ""
    exec: str = ""
    environ: dict[str, str] = field(default_factory=dict)


_MAKEFILE = "[ -e GNUmakefile ] || [ -e makefile ] || [ -e Makefile ]"
_MAKE_CLEAN = f"if {_MAKEFILE}; then make -n clean >/dev/null 2>&1 && make clean || :; fi"


def _make_or(build: str = ":") -> str:
    """make where there is a makefile, else `build`."""
    return f"if {_MAKEFILE}; then make; else {build}; fi"


def _all(pattern: str, command: str) -> str:
    """`command` once, with all files of `pattern` as "$@"."""
    return f"find . -name '{pattern}' -type f -print0 | xargs -0 sh -c '{command}' sh"


def _need(file: str, then: str) -> str:
    """`then` when `file` is there, else 127 and a word."""
    missing = f"echo 'sandboxd: no {file} to work with' >&2; exit 127"
    return f"if [ -e {file} ]; then {then}; else {missing}; fi"


def _program() -> str:
    """Whatever a compiler has left."""
    missing = "echo 'sandboxd: neither ./main nor ./a.out to run' >&2; exit 127"
    return f"if [ -x main ]; then ./main; elif [ -x a.out ]; then ./a.out; else {missing}; fi"


_C = 'gcc -Wall -o main "$@" -pthread -lm -lrt -ldl'
_CPP = 'g++ -Wall -o main "$@" -pthread -lm -lrt -ldl'
_GO = "if [ -e go.mod ]; then go build -o main .; else GO111MODULE=off go build -o main ./*.go; fi"
_RUST = (
    "if [ -e Cargo.toml ]; then cargo build --offline; else "
    + _need("main.rs", "rustc -o main main.rs")
    + "; fi"
)
_RUST_EXEC = (
    "for f in target/debug/* target/release/*; do "
    'if [ -f "$f" ] && [ -x "$f" ]; then exec "$f"; fi; done; ' + _program()
)
_JAVA = (
    "find . -name '*.java' -type f | sed 's/\\\\/\\\\\\\\/g; s/\"/\\\\\"/g; s/.*/\"&\"/' "
    "> .sources && javac -d . @.sources; s=$?; rm -f .sources; exit $s"
)
_JAVA_EXEC = "if [ -e main/Main.class ]; then java main.Main; else " + _need(
    "Main.class", "java Main"
) + "; fi"
_LUA = "$(command -v lua lua5.4 lua5.3 lua5.1 | head -n 1) main.lua"
_PYTHON = (
    "if [ -e setup.py ] || [ -e pyproject.toml ]; then "
    "if python3 -m pip --version >/dev/null 2>&1; then "
    "python3 -m pip install --quiet --user --break-system-packages --no-index --no-deps "
    "--no-build-isolation --disable-pip-version-check -e .; "
    "else echo 'sandboxd: python3-pip is not on this host; the package is used as it lies' >&2; "
    "fi; fi"
)
_NODE = "if [ ! -e main.js ] && [ -e index.js ]; then node index.js; else " + _need(
    "main.js", "node main.js"
) + "; fi"

BUILTIN = (
    Runtime(
        "c", "C (gcc)", ("gcc", "c11", "c17", "cc", "clang"), (("gcc",),),
        _MAKE_CLEAN, _make_or(_need("main.c", _all("*.c", _C))), _program(),
    ),
    Runtime(
        "cpp", "C++ (g++)", ("c++", "g++", "gpp", "cxx", "cpp17", "gcc-cpp"), (("g++",),),
        _MAKE_CLEAN, _make_or(_need("main.cpp", _all("*.cpp", _CPP))), _program(),
    ),
    Runtime(
        "golang", "Go", ("go",), (("go",),), "", _make_or(_need("main.go", _GO)), _program(),
        {"GOPATH": "/home/work/go", "GOPROXY": "off", "GOTOOLCHAIN": "local"},
    ),
    Runtime(
        "java", "Java", ("openjdk", "jdk", "java8", "java11", "java17"), (("javac",), ("java",)),
        "", _make_or(_JAVA), _JAVA_EXEC,
    ),
    Runtime(
        "lua", "Lua", ("lua5", "lua5.3", "lua5.4"), (("lua", "lua5.4", "lua5.3", "lua5.1"),),
        "", _make_or(), _need("main.lua", _LUA),
    ),
    Runtime(
        "nodejs", "Node.js", ("node", "javascript", "js"), (("node", "nodejs"),),
        "", _make_or(), _NODE,
    ),
    Runtime(
        "perl", "Perl", ("perl5",), (("perl",),), "", _make_or(), _need("main.pl", "perl main.pl")
    ),
    Runtime(
        "php", "PHP", ("php-cli",), (("php",),), "", _make_or(), _need("main.php", "php main.php")
    ),
    Runtime(
        "python", "Python 3",
        ("py", "python3", "cpython", "python-tensorflow", "python-torch", "python-ff", "anaconda"),
        (("python3",),), "", _make_or(_PYTHON), _need("main.py", "python3 main.py"),
        {"PYTHONUNBUFFERED": "1"},
    ),
    Runtime(
        "ruby", "Ruby", ("rb",), (("ruby",),), "", _make_or(), _need("main.rb", "ruby main.rb")
    ),
    Runtime(
        "rust", "Rust", ("rustc", "rs"), (("rustc",), ("cargo",)), "", _make_or(_RUST), _RUST_EXEC
    ),
    Runtime(
        "shell", "Shell", ("sh", "bash", "dash", "base", "ubuntu", "debian"), (("bash", "sh"),),
        "", _make_or(), _need("main.sh", "sh main.sh"),
    ),
)  # fmt: skip

MARKERS = (
    # what a folder has, as a pattern of relative names; the first that matches decides
    (r"Cargo\.toml|main\.rs", "rust"),
    (r"go\.mod|main\.go", "golang"),
    (r"setup\.py|pyproject\.toml|main\.py", "python"),
    (r"package\.json|(main|index)\.js", "nodejs"),
    (r"(main/)?Main\.java|pom\.xml", "java"),
    (r"main\.(cpp|cc|cxx)", "cpp"),
    (r"main\.c", "c"),
    (r"main\.rb|Gemfile", "ruby"),
    (r"main\.pl", "perl"),
    (r"main\.lua", "lua"),
    (r"main\.php", "php"),
    (r"main\.sh", "shell"),
    (r".*\.(cpp|cc|cxx)", "cpp"),
    (r".*\.c", "c"),
    (r".*\.java", "java"),
    (r".*\.py", "python"),
    (r".*\.rs", "rust"),
    (r".*\.go", "golang"),
    (r".*\.js", "nodejs"),
    (r".*\.rb", "ruby"),
    (r".*\.pl", "perl"),
    (r".*\.lua", "lua"),
    (r".*\.php", "php"),
    (r".*\.sh|GNUmakefile|[Mm]akefile", "shell"),
)
