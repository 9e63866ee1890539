"""The table of the built-in runtimes: the languages that Backend.AI has, then all others.

The commands for "*" follow the runners of Backend.AI.

Where a runner fails on a host of today (removed JVM flags, all sources in one argument), the
command does what the runner evidently intends. A run has no network. Tools with an offline setting
get it, so that they report a missing package at once instead of waiting for a server.
"""

from __future__ import annotations

from .commands import (
    BUILD_SCRIPT,
    C_BINARY,
    MAKE,
    binary,
    compiled,
    listed,
    otherwise,
    script,
    when,
)
from .compiled_languages import COMPILED
from .machine_languages import MACHINE
from .scripted_languages import SCRIPTED
from .values import Runtime

# Debian marks its Python as externally managed (PEP 668), even for --user. The home of a jail has
# no system packages, hence PIP_BREAK_SYSTEM_PACKAGES below (a variable: pip before 23.0.1 has no
# such option). A pyproject.toml that only configures tools makes no package.
_PYTHON_BUILD = (
    MAKE
    + r"""if [ -f setup.py ] || grep -Eqs '^\[(build-system|project)\]' pyproject.toml; then
  if {python3} -m pip --version >/dev/null 2>&1; then
    exec {python3} -m pip install --quiet --user --no-index --no-deps --no-build-isolation -e .
  fi
  echo 'sandboxd: this host has no pip; the package is not installed but used as it lies' >&2
fi
exit 0
"""
)

# Argument files of javac(1) have names in double quotes, with a backslash before a quote.
_JAVA_BUILD = (
    MAKE
    + listed(
        ("java",),
        r's/["\\]/\\&/g; s/.*/"&"/',
        'if [ -s "$sources" ]; then javac -encoding UTF-8 -d . @"$sources"; exit; fi',
    ).removesuffix("exit\n")
    + otherwise("build", "a Makefile or *.java")
)

_JAVA_EXEC = (
    when(["main/Main.class"], "exec java main.Main")
    + when(["Main.class"], "exec java Main")
    + otherwise("exec", "main/Main.class or Main.class")
)

# Without go.mod, relative imports and $GOPATH/src work as before Go had modules.
_GO_BUILD = (
    MAKE
    + when(["go.mod"], "exec go build -o main .")
    + when(["main.go"], 'exec env GO111MODULE=off GOPATH="$PWD" go build -o main ./*.go')
    + otherwise("build", "a Makefile, go.mod or main.go")
)

_RUST_BUILD = (
    MAKE
    + when(["Cargo.toml"], "exec cargo build")
    + when(["main.rs"], "exec rustc --edition 2021 -o main main.rs")
    + otherwise("build", "a Makefile, Cargo.toml or main.rs")
)

_NODE_EXEC = (
    when(["main.js"], "exec {node} main.js")
    + when(["package.json", "index.js"], "exec {node} .")
    + otherwise("exec", "main.js, index.js or package.json")
)

BUILTIN = (
    Runtime(
        "c",
        "C (gcc)",
        aliases=("gcc", "cc", "ansi-c", "c11", "c17"),
        tools=(("gcc",),),
        packages=("gcc", "libc6-dev", "make"),
        build=compiled("gcc", ("main.c",), ("c",)),
        exec=C_BINARY,
    ),
    Runtime(
        "cpp",
        "C++ (g++)",
        aliases=("c++", "g++", "gpp", "cxx", "cplusplus", "cpp17", "gcc-cpp"),
        tools=(("g++",),),
        packages=("g++", "make"),
        build=compiled("g++", ("main.cpp", "main.cc", "main.cxx"), ("cpp", "cc", "cxx")),
        exec=C_BINARY,
    ),
    Runtime(
        "python",
        "Python 3",
        aliases=(
            "python3",
            "py",
            "cpython",
            "anaconda",
            "python-tensorflow",
            "python-torch",
            "python-ff",
        ),
        tools=(("python3", "python"),),
        packages=("python3",),
        build=_PYTHON_BUILD,
        exec=script("main.py", "{python3}"),
        environ={
            "PIP_BREAK_SYSTEM_PACKAGES": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        },
    ),
    Runtime(
        "nodejs",
        "JavaScript (Node.js)",
        aliases=("node", "js", "javascript"),
        tools=(("node", "nodejs"),),
        packages=("nodejs",),
        build=BUILD_SCRIPT,
        exec=_NODE_EXEC,
    ),
    Runtime(
        "java",
        "Java",
        aliases=("openjdk", "jdk", "java8", "java11", "java17"),
        tools=(("javac",), ("java",)),
        packages=("default-jdk-headless",),
        build=_JAVA_BUILD,
        exec=_JAVA_EXEC,
    ),
    Runtime(
        "golang",
        "Go",
        aliases=("go",),
        tools=(("go",),),
        packages=("golang-go",),
        build=_GO_BUILD,
        exec=binary("./main"),
        environ={"GOPROXY": "off", "GOTOOLCHAIN": "local"},
    ),
    Runtime(
        "rust",
        "Rust",
        aliases=("rustc", "rs", "rust-lang"),
        tools=(("rustc",),),
        packages=("rustc", "cargo"),
        build=_RUST_BUILD,
        exec=binary("target/debug/*", "target/release/*", "./main"),
        environ={"CARGO_NET_OFFLINE": "true"},
    ),
    Runtime(
        "perl",
        "Perl 5",
        aliases=("perl5",),
        tools=(("perl",),),
        packages=("perl",),
        build=BUILD_SCRIPT,
        exec=script("main.pl", "{perl}"),
    ),
    Runtime(
        "ruby",
        "Ruby",
        aliases=("rb",),
        tools=(("ruby",),),
        packages=("ruby",),
        build=BUILD_SCRIPT,
        exec=script("main.rb", "{ruby}"),
    ),
    Runtime(
        "lua",
        "Lua",
        aliases=("lua5", "lua5.3", "lua5.4"),
        tools=(("lua5.4", "lua5.3", "lua"),),
        packages=("lua5.4",),
        build=BUILD_SCRIPT,
        exec=script("main.lua", "{lua5.4}"),
    ),
    Runtime(
        "php",
        "PHP",
        aliases=("php-cli",),
        tools=(("php",),),
        packages=("php-cli",),
        build=BUILD_SCRIPT,
        exec=script("main.php", "{php}"),
        paths=("/etc/php",),
    ),
    Runtime(
        "shell",
        "Shell (bash, else sh)",
        aliases=("bash", "sh", "dash", "base", "debian", "ubuntu"),
        tools=(("bash", "sh"),),
        packages=("bash",),
        build=BUILD_SCRIPT,
        exec=script("main.sh", "{bash}"),
    ),
    *COMPILED,
    *MACHINE,
    *SCRIPTED,
)

ADDITIONAL = frozenset(runtime.name for runtime in (*COMPILED, *MACHINE, *SCRIPTED))
"""The names of the languages that Backend.AI does not have."""
