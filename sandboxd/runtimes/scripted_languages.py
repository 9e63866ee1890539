"""The built-in runtimes of languages that run from their sources, beyond those of Backend.AI."""

from __future__ import annotations

from .commands import BUILD_SCRIPT, otherwise, parts, script, when
from .values import Runtime


def _runtime(
    name: str, title: str, aliases: str, tool: str, exec: str, packages: str, **more: object
) -> Runtime:
    """A runtime with one tool, "|" between its alternatives, and no build but that of a Makefile.
    Aliases and packages have spaces between them."""
    return Runtime(
        name,
        title,
        aliases=tuple(aliases.split()),
        tools=(tuple(tool.split("|")),),
        build=BUILD_SCRIPT,
        exec=exec,
        packages=tuple(packages.split()),
        **more,  # type: ignore[arg-type]  # paths or environ
    )


def _first(mains: tuple[str, ...], command: str) -> str:
    """The exec of the first of `mains` that exists; {} in `command` is its name."""
    texts = (when([main], "exec " + command.replace("{}", main)) for main in mains)
    return "".join(texts) + otherwise("exec", " or ".join(mains))


SCRIPTED = (
    _runtime("r", "R", "rscript r-base r-lang", "Rscript",
             script("main.R", "Rscript --vanilla"), "r-base-core",
             paths=("/etc/R", "/etc/R/Renviron")),
    _runtime("octave", "GNU Octave", "octave-cli gnu-octave", "octave-cli|octave",
             script("main.m", "{octave-cli} --quiet --no-history"), "octave"),
    _runtime("pypy", "Python 3 (PyPy)", "pypy3", "pypy3",
             script("main.py", "pypy3"), "pypy3", environ={"PYTHONUNBUFFERED": "1"}),
    _runtime("luajit", "Lua (LuaJIT)", "lua-jit", "luajit",
             script("main.lua", "luajit"), "luajit"),
    _runtime("raku", "Raku", "perl6 rakudo", "raku|perl6|rakudo",
             script("main.raku", "{raku} -I."), "rakudo"),
    _runtime("tcl", "Tcl", "tclsh", "tclsh", script("main.tcl", "tclsh"), "tcl"),
    _runtime("expect", "Expect", "", "expect", script("main.exp", "expect -f"), "expect"),
    _runtime("elixir", "Elixir", "exs", "elixir",
             script("main.exs", "elixir"), "elixir"),
    _runtime("erlang-escript", "Erlang (escript)", "escript", "escript",
             script("main.escript", "escript"), "erlang-base"),
    _runtime("ocaml-script", "OCaml (toplevel)", "ocaml-toplevel", "ocaml",
             script("main.ml", "ocaml"), "ocaml-nox"),
    _runtime("sml", "Standard ML (Poly/ML)", "sml-poly polyml poly standard-ml", "poly",
             script("main.sml", "poly --script"), "polyml"),
    _runtime("scheme-guile", "Scheme (Guile)", "scheme guile", "guile",
             script("main.scm", "guile --no-auto-compile -s"), "guile-3.0"),
    _runtime("scheme-mit", "Scheme (MIT)", "mit-scheme", "mit-scheme",
             when(["main.scm"], "exec mit-scheme --quiet --load main.scm --eval '(exit 0)'")
             + otherwise("exec", "main.scm"), "mit-scheme"),
    _runtime("racket", "Racket", "rkt", "racket", script("main.rkt", "racket"), "racket"),
    _runtime("lisp-sbcl", "Common Lisp (SBCL)", "sbcl lisp common-lisp", "sbcl",
             script("main.lisp", "sbcl --script"), "sbcl"),
    _runtime("lisp-clisp", "Common Lisp (CLISP)", "clisp", "clisp",
             script("main.lisp", "clisp"), "clisp"),
    _runtime("lisp-ecl", "Common Lisp (ECL)", "ecl", "ecl",
             script("main.lisp", "ecl --shell"), "ecl"),
    _runtime("clojure", "Clojure", "clj", "clojure",
             script("main.clj", "clojure"), "clojure"),
    _runtime("groovy", "Groovy", "gvy", "groovy", script("main.groovy", "groovy"), "groovy"),
    _runtime("prolog-swi", "Prolog (SWI)", "prolog swipl swi-prolog", "swipl",
             _first(("main.pl", "main.pro"), "swipl -q -g main -t halt {}"), "swi-prolog-nox"),
    _runtime("forth", "Forth (Gforth)", "gforth", "gforth",
             _first(("main.fs", "main.fth", "main.4th"), "gforth {} -e bye"), "gforth"),
    _runtime("algol68", "Algol 68", "a68g algol a68", "a68g",
             script("main.a68", "a68g"), "algol68g"),
    _runtime("pike", "Pike", "pike8", "pike|pike8.0",
             script("main.pike", "{pike}"), "pike8.0-core"),
    _runtime("brainfuck", "Brainfuck", "bf beef", "beef", script("main.bf", "beef"), "beef"),
    _runtime("coffeescript", "CoffeeScript", "coffee", "coffee",
             script("main.coffee", "coffee"), "coffeescript"),
    _runtime("basic", "BASIC (Yabasic)", "yabasic basic-yabasic", "yabasic",
             script("main.bas", "yabasic"), "yabasic"),
    _runtime("rexx", "REXX (Regina)", "regina", "rexx|regina",
             script("main.rexx", "{rexx}"), "regina-rexx"),
    _runtime("awk", "AWK", "gawk mawk nawk", "awk|gawk|mawk",
             parts("main.awk", "{awk}", before="-f"), "mawk"),
    _runtime("sed", "sed", "", "sed", script("main.sed", "sed -f"), "sed"),
    _runtime("bc", "bc", "", "bc", parts("main.bc", "bc -q"), "bc"),
    _runtime("dc", "dc", "", "dc", parts("main.dc", "dc", before="-f"), "dc"),
    _runtime("jq", "jq", "", "jq", script("main.jq", "jq -L . -r -f"), "jq"),
    _runtime("sql", "SQL (SQLite)", "sqlite sqlite3 sql-sqlite", "sqlite3",
             when(["main.sql"], "exec sqlite3 -batch -bail :memory: '.read main.sql'")
             + otherwise("exec", "main.sql"), "sqlite3"),
    _runtime("sh-dash", "Shell (dash)", "posix-sh", "dash", script("main.sh", "dash"), "dash"),
    _runtime("zsh", "Shell (zsh)", "", "zsh", _first(("main.zsh", "main.sh"), "zsh {}"), "zsh"),
    _runtime("tcsh", "Shell (tcsh)", "csh", "tcsh",
             _first(("main.csh", "main.tcsh"), "tcsh -f {}"), "tcsh"),
)  # fmt: skip
