"""The shell texts for "*", as functions of the differences between languages. POSIX sh.

Each text is a list of attempts, and the first attempt that fits is used. If none fits, the text
writes to stderr which files it looked for and ends with 127, the status of a shell for a command
that is not found. A Makefile comes first in every build. `exec` replaces the shell by the program,
so that the exit status and the signals of the program are those of the step.

File names come from the user. They reach a tool NUL-separated or quoted in a list that the tool
reads (@FILE), never as words of a command line. Such a list also has no length limit; xargs would
call a compiler twice. Hidden files and directories have caches and results, not sources.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable

MAKE = """\
for file in GNUmakefile makefile Makefile; do
  if [ -f "$file" ]; then exec make; fi
done
"""

BUILD_SCRIPT = f"{MAKE}exit 0\n"
"""Scripts need no build, unless a Makefile says so."""


def otherwise(step: str, looked_for: str) -> str:
    """The last line of a text, for the case that no attempt fits."""
    message = f'sandboxd: {step} "*" looked for {looked_for} in /home/work and found none'
    return f"echo {shlex.quote(message)} >&2; exit 127\n"


def when(files: Iterable[str], text: str) -> str:
    """`text`, which must end the step, under the condition that one of `files` exists."""
    tests = " || ".join(f"[ -f {shlex.quote(file)} ]" for file in files)
    return f"if {tests}; then\n{text.rstrip()}\nfi\n"


def listed(suffixes: tuple[str, ...], quote: str, text: str) -> str:
    """`text`, which uses @"$sources" as the list of all files with these suffixes. The sed script
    `quote` quotes their names."""
    names = " -o ".join(f"-name '*.{suffix}'" for suffix in suffixes)
    return rf"""sources=$(mktemp) || exit
trap 'rm -f "$sources"' EXIT
LC_ALL=C find . -name '.?*' -prune -o \( {names} \) -xtype f -print0 |
  LC_ALL=C sed -z '{quote}' | tr '\0' '\n' >"$sources"
{text}
exit
"""


MAKE_OR_ALL = """\
all=
for file in GNUmakefile makefile Makefile; do
  [ -f "$file" ] || continue
  if command -v make >/dev/null; then exec make; fi
  echo "sandboxd: make is not installed on this host; compiling all sources instead" >&2
  all=yes
  break
done
"""
"""As MAKE. On a host without make, `all` says that there is a Makefile which cannot be used."""


def compiled(compiler: str, mains: tuple[str, ...], suffixes: tuple[str, ...]) -> str:
    """The build of C or C++: all sources of the tree at once into ./main, if one of `mains` exists.

    Every directory with a header is in the include path. In a list for gcc, a backslash quotes any
    character (gcc(1), @file).
    """
    quote = r"s/[^[:alnum:]]/\\&/g"
    headers = rf"""LC_ALL=C find . -name '.?*' -prune -o -name '*.h' -printf '-I%h\0' |
  LC_ALL=C sort -zu | LC_ALL=C sed -z '{quote}' | tr '\0' '\n' >>"$sources"
"""
    command = f'{compiler} -Wall -o main @"$sources" -pthread -lm -lrt -ldl'
    every = listed(suffixes, quote, headers + command)
    tests = " || ".join(['[ -n "$all" ]', *(f"[ -f {shlex.quote(main)} ]" for main in mains)])
    looked_for = otherwise("build", f"a Makefile or {' or '.join(mains)}")
    return f"{MAKE_OR_ALL}if {tests}; then\n{every}fi\n{looked_for}"


def binary(*patterns: str) -> str:
    """The exec of the first executable file among `patterns`."""
    looked_for = otherwise("exec", f"an executable file {' or '.join(patterns)}")
    return f"""\
for file in {" ".join(patterns)}; do
  case $file in *.so) continue;; esac
  if [ -f "$file" ] && [ -x "$file" ]; then exec "$file"; fi
done
{looked_for}"""


C_BINARY = binary("./main", "./a.out")
"""The exec of a program that a compiler of C or the like has linked."""


def script(main: str, command: str) -> str:
    """The exec of the script `main` by `command`."""
    return when([main], f"exec {command} {main}") + otherwise("exec", main)


def built(mains: Iterable[str], command: str) -> str:
    """The build by `command`, which ends the step, where one of `mains` exists."""
    mains = tuple(mains)
    return MAKE + when(mains, command) + otherwise("build", f"a Makefile or {' or '.join(mains)}")


def main_last(suffix: str, main: str, before: str = "") -> str:
    """Sets "$@" to the files of the folder with this suffix, in the order of their names, but
    `main` at the end. Each has the option `before` in front, and no name looks like an option."""
    option = f"{before} " if before else ""
    return f"""\
set --
for file in *.{suffix}; do
  case $file in {main} | '*.{suffix}') ;; *) set -- "$@" {option}"./$file" ;; esac
done
set -- "$@" {option}./{main}
"""


def parts(main: str, command: str, before: str = "") -> str:
    """The exec by `command` of a script without a way to name its other files: all files of its
    suffix come first, `main` last."""
    text = main_last(main.rpartition(".")[2], main, before) + f'exec {command} "$@"'
    return when([main], text) + otherwise("exec", main)


def assembled(assembler: str, suffix: str) -> str:
    """The build of assembly: each file by `assembler`, then ./main. A program that begins at
    _start is linked without the C library. Without -no-pie, absolute addresses are errors."""
    text = rf"""for file in *.{suffix}; do
  {assembler} -o "${{file%.{suffix}}}.o" "./$file" || exit
done
if grep -Eiqs '^[[:space:]]*\.?glob(a)?l[[:space:]]+_start' ./*.{suffix}; then
  exec ld -o main ./*.o
fi
exec gcc -no-pie -o main ./*.o -lm"""
    return built([f"main.{suffix}"], text)
