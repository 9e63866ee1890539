"""The built-in runtimes of languages that are compiled, beyond those of Backend.AI."""

from __future__ import annotations

from .commands import (
    C_BINARY,
    MAKE,
    binary,
    built,
    compiled,
    listed,
    main_last,
    otherwise,
    script,
    when,
)
from .values import Runtime

_MAIN = binary("./main")

# ocamldep(1) knows the order in which OCaml links modules.
_OCAML_BUILD = """\
set -- ./*.ml
for file in ./*.mli; do
  [ -f "$file" ] && set -- "$@" "$file"
done
order=$(ocamldep -sort "$@") || exit
# shellcheck disable=SC2086
exec ocamlopt -I +unix -I +str -o main unix.cmxa str.cmxa $order"""

_CSHARP_BUILD = listed(
    ("cs",), 's/.*/"&"/', 'if [ -s "$sources" ]; then mcs -out:main.exe @"$sources"; exit; fi'
).removesuffix("exit\n")

_TYPESCRIPT_BUILD = built(
    ("tsconfig.json", "main.ts"),
    """\
if [ -f tsconfig.json ]; then exec tsc -p .; fi
exec tsc --target es2020 --module commonjs main.ts""",
)

_TYPESCRIPT_EXEC = "".join(
    when([file], f"exec {{node}} {file}")
    for file in ("main.js", "dist/main.js", "index.js", "dist/index.js")
) + otherwise("exec", "main.js or index.js, or one of them in dist")

_CMAKE_BUILD = built(
    ("CMakeLists.txt",), "cmake -S . -B build >/dev/null && exec cmake --build build"
)

COMPILED = (
    Runtime(
        "c-clang",
        "C (clang)",
        aliases=("clang",),
        tools=(("clang",),),
        build=compiled("clang", ("main.c",), ("c",)),
        exec=C_BINARY,
        environ={"ASAN_OPTIONS": "detect_leaks=0"},
        packages=("clang",),
    ),
    Runtime(
        "cpp-clang",
        "C++ (clang)",
        aliases=("clang++", "c++-clang"),
        tools=(("clang++",),),
        build=compiled("clang++", ("main.cpp", "main.cc", "main.cxx"), ("cpp", "cc", "cxx")),
        exec=C_BINARY,
        environ={"ASAN_OPTIONS": "detect_leaks=0"},
        packages=("clang", "g++"),
    ),
    Runtime(
        "objc",
        "Objective-C",
        aliases=("objective-c", "objectivec", "gobjc"),
        tools=(("gcc",), ("/usr/lib/gcc/*/*/cc1obj",)),
        build=built(("main.m",), "exec gcc -o main ./*.m -lobjc -lm"),
        exec=_MAIN,
        packages=("gobjc",),
    ),
    Runtime(
        "cmake",
        "C, C++ and others by CMake",
        aliases=("cmake-c", "cmake-cpp"),
        tools=(("cmake",),),
        build=_CMAKE_BUILD,
        exec=binary("build/main", "build/*"),
        packages=("cmake", "make", "g++"),
    ),
    Runtime(
        "fortran",
        "Fortran",
        aliases=("gfortran", "f90", "f95", "f77"),
        tools=(("gfortran",),),
        build=built(
            ("main.f90", "main.f"),
            when(["main.f90"], main_last("f90", "main.f90") + 'exec gfortran -O2 -o main "$@"')
            + main_last("f", "main.f")
            + 'exec gfortran -O2 -o main "$@"',
        ),
        exec=_MAIN,
        packages=("gfortran",),
    ),
    Runtime(
        "ada",
        "Ada",
        aliases=("gnat", "ada-gnat"),
        tools=(("gnatmake",),),
        build=built(("main.adb",), "exec gnatmake -q -O2 -o main main.adb"),
        exec=_MAIN,
        packages=("gnat",),
    ),
    Runtime(
        "d-gdc",
        "D (gdc)",
        aliases=("d", "gdc", "dlang"),
        tools=(("gdc",),),
        build=built(("main.d",), "exec gdc -O2 -o main ./*.d"),
        exec=_MAIN,
        packages=("gdc",),
    ),
    Runtime(
        "d-ldc",
        "D (ldc)",
        aliases=("ldc", "ldc2"),
        tools=(("ldc2",),),
        build=built(("main.d",), "exec ldc2 -O2 -of=main ./*.d"),
        exec=_MAIN,
        paths=("/etc/ldc2.conf",),
        packages=("ldc",),
    ),
    Runtime(
        "nim",
        "Nim",
        aliases=("nim-lang", "nimlang"),
        tools=(("nim",),),
        build=built(
            ("main.nim",), "exec nim c -d:release --hints:off --verbosity:0 -o:main main.nim"
        ),
        exec=_MAIN,
        paths=("/etc/nim",),
        packages=("nim",),
    ),
    Runtime(
        "crystal",
        "Crystal",
        aliases=("crystal-lang", "crystallang"),
        tools=(("crystal",),),
        build=built(("main.cr",), "exec crystal build -o main main.cr"),
        exec=_MAIN,
        packages=("crystal",),
    ),
    Runtime(
        "vala",
        "Vala",
        aliases=("valac",),
        tools=(("valac",),),
        build=built(("main.vala",), "exec valac -o main ./*.vala"),
        exec=_MAIN,
        packages=("valac",),
    ),
    Runtime(
        "haskell",
        "Haskell",
        aliases=("ghc", "hs"),
        tools=(("ghc",),),
        build=built(
            ("main.hs", "Main.hs"),
            when(["main.hs"], "exec ghc -v0 -O -o main main.hs")
            + "exec ghc -v0 -O -o main Main.hs",
        ),
        exec=_MAIN,
        paths=("/var/lib/ghc",),
        packages=("ghc",),
    ),
    Runtime(
        "ocaml",
        "OCaml",
        aliases=("ocamlopt", "ml"),
        tools=(("ocamlopt",), ("ocamldep",)),
        build=built(("main.ml",), _OCAML_BUILD),
        exec=_MAIN,
        packages=("ocaml-nox",),
    ),
    Runtime(
        "scheme-chicken",
        "Scheme (Chicken)",
        aliases=("chicken", "chicken-scheme"),
        tools=(("csc", "chicken-csc"),),
        build=built(("main.scm",), "exec {csc} -O2 -o main main.scm"),
        exec=_MAIN,
        paths=("/var/lib/chicken",),
        packages=("chicken-bin",),
    ),
    Runtime(
        "prolog-gnu",
        "Prolog (GNU)",
        aliases=("gprolog", "gnu-prolog"),
        tools=(("gplc",),),
        build=built(("main.pl",), "exec gplc --no-top-level -o main main.pl"),
        exec=_MAIN,
        packages=("gprolog",),
    ),
    Runtime(
        "pascal",
        "Pascal (Free Pascal)",
        aliases=("fpc", "freepascal", "free-pascal", "pas"),
        tools=(("fpc",),),
        build=built(
            ("main.pas", "main.pp"),
            when(["main.pas"], "exec fpc -O2 -v0 -omain main.pas")
            + "exec fpc -O2 -v0 -omain main.pp",
        ),
        exec=_MAIN,
        paths=("/etc/fpc.cfg", "/etc/fpc-*.cfg", "/etc/alternatives/fpc.cfg"),
        packages=("fp-compiler",),
    ),
    Runtime(
        "cobol",
        "COBOL (GnuCOBOL)",
        aliases=("gnucobol", "cobc", "open-cobol"),
        tools=(("cobc",),),
        build=built(
            ("main.cob", "main.cbl"),
            when(["main.cob"], "exec cobc -x -free -o main main.cob")
            + "exec cobc -x -free -o main main.cbl",
        ),
        exec=_MAIN,
        paths=("/etc/gnucobol",),
        packages=("gnucobol4",),
    ),
    Runtime(
        "csharp",
        "C# (Mono)",
        aliases=("c#", "cs", "mono", "mcs"),
        tools=(("mcs",), ("mono",)),
        build=MAKE + _CSHARP_BUILD + otherwise("build", "a Makefile or *.cs"),
        exec=script("main.exe", "mono"),
        paths=("/etc/mono", "/etc/mono/certstore"),
        packages=("mono-mcs", "mono-runtime"),
    ),
    Runtime(
        "kotlin",
        "Kotlin",
        aliases=("kotlinc", "kt"),
        tools=(("kotlinc",), ("java",)),
        build=built(("main.kt",), "exec kotlinc ./*.kt -include-runtime -d main.jar"),
        exec=when(["main.jar"], "exec java -jar main.jar") + otherwise("exec", "main.jar"),
        packages=("kotlin", "default-jre-headless"),
    ),
    Runtime(
        "scala",
        "Scala 2",
        aliases=("scalac",),
        tools=(("scalac",), ("scala",)),
        build=built(("Main.scala",), "exec scalac ./*.scala"),
        exec=when(["Main.class"], "exec scala Main") + otherwise("exec", "Main.class"),
        packages=("scala", "default-jre-headless"),
    ),
    Runtime(
        "erlang",
        "Erlang",
        aliases=("erl", "erlc"),
        tools=(("erlc",), ("erl",)),
        build=built(("main.erl",), "exec erlc ./*.erl"),
        exec=when(["main.beam"], "exec erl -noshell -s main main -s init stop")
        + otherwise("exec", "main.beam"),
        packages=("erlang-base",),
    ),
    Runtime(
        "typescript",
        "TypeScript",
        aliases=("ts", "tsc", "typescript-tsc"),
        tools=(("tsc",), ("node", "nodejs")),
        build=_TYPESCRIPT_BUILD,
        exec=_TYPESCRIPT_EXEC,
        packages=("node-typescript", "nodejs"),
    ),
    Runtime(
        "haxe",
        "Haxe (Neko)",
        aliases=("haxe-neko", "neko"),
        tools=(("haxe",), ("neko",)),
        build=built(("Main.hx",), "exec haxe -main Main -neko main.n"),
        exec=when(["main.n"], "exec neko main.n") + otherwise("exec", "main.n"),
        packages=("haxe", "neko"),
    ),
)
