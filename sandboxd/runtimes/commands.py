"""The shell texts behind "*", as functions of what differs between languages. POSIX sh.

Each text is one list of attempts, the first that fits wins; what fits none says on stderr
what was looked for and ends with 127, as a shell does for a command that it does not find.
A Makefile wins in every build. `exec` puts the program in the shell's place, so that its exit
status and signals are the step's own.

File names are the user's: they reach a tool NUL-separated or quoted in a list that it reads
(@FILE), never as words of a command line. Such a list also has no length limit, where xargs
would call a compiler twice. Hidden files and directories hold caches and results, no sources.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable

MAKE = """\
for file in GNUmakefile makefile Makefile; do
  if [ -f "$file" ]; then exec make; fi
done
"""

MAKE_CLEAN = """\
for file in GNUmakefile makefile Makefile; do
  [ -f "$file" ] || continue
  # -q changes nothing and ends with 2 when there is no such target: then nothing is to be done.
  make -q clean >/dev/null 2>&1
  [ $? -eq 2 ] || exec make clean
  break
done
exit 0
"""

BUILD_SCRIPT = f"{MAKE}exit 0\n"
"""Scripts need no build, unless a Makefile says so."""


def otherwise(step: str, looked_for: str) -> str:
    """The last line of a text: nothing fitted."""
    message = f'sandboxd: {step} "*" looked for {looked_for} in /home/work and found none'
    return f"echo {shlex.quote(message)} >&2; exit 127\n"


def when(files: Iterable[str], text: str) -> str:
    """`text`, which must end the step, if any of `files` is there."""
    tests = " || ".join(f"[ -f {shlex.quote(file)} ]" for file in files)
    return f"if {tests}; then\n{text.rstrip()}\nfi\n"


def listed(suffixes: tuple[str, ...], quote: str, text: str) -> str:
    """`text` with @"$sources" for all files of these suffixes, quoted by the sed script `quote`."""
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
"""As MAKE; on a host without make, `all` tells that there is a Makefile which cannot be used."""


def compiled(compiler: str, mains: tuple[str, ...], suffixes: tuple[str, ...]) -> str:
    """Build of C or C++: all sources of the tree at once into ./main, if one of `mains` is there.

    Headers are looked for wherever the tree has some. In a list for gcc any character is quoted
    by a backslash (gcc(1), @file).
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
    """Exec of the first executable file among `patterns`."""
    looked_for = otherwise("exec", f"an executable file {' or '.join(patterns)}")
    return f"""\
for file in {" ".join(patterns)}; do
  case $file in *.so) continue;; esac
  if [ -f "$file" ] && [ -x "$file" ]; then exec "$file"; fi
done
{looked_for}"""


def script(main: str, command: str) -> str:
    """Exec of the script `main` by `command`."""
    return when([main], f"exec {command} {main}") + otherwise("exec", main)
