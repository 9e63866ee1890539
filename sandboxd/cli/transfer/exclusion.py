"""The names that an upload leaves out: by --exclude, by --exclude-from, and by version control.

Both options have the rules of .gitignore(5), by the library pathspec: a pattern without "/" means a
name at any depth, and a directory with all that it holds; a pattern with "/" is relative to the
folder. As in git, nothing below an excluded directory can be taken in again, so excluded
directories are not read at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from ...errors import ConfigError

Excludes = Callable[[str, bool], bool]
"""Whether the entry of this relative name is left out; the flag: it is a directory."""

VERSION_CONTROL = frozenset({".git", ".hg", ".svn"})


def exclusion(patterns: Iterable[str], files: Iterable[str], with_vcs: bool) -> Excludes:
    """The rule of the command line. Raises ConfigError for a pattern or file that is not usable."""
    lines = [line for file in files for line in _lines(file)]
    lines += [_as_line(pattern) for pattern in patterns]
    names = frozenset() if with_vcs else VERSION_CONTROL
    if not lines:
        return lambda name, _: name.rpartition("/")[2] in names
    from pathspec import GitIgnoreSpec  # 15 ms, for those that need it

    try:
        spec = GitIgnoreSpec.from_lines(lines)
    except ValueError as error:
        raise ConfigError(f"--exclude: {error}") from None

    def excludes(name: str, is_directory: bool) -> bool:
        if name.rpartition("/")[2] in names:
            return True
        return spec.match_file(f"{name}/" if is_directory else name)

    return excludes


def _lines(path: str) -> list[str]:
    try:
        text = Path(path).read_text("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise ConfigError(f"--exclude-from {path}: {error.strerror}") from None
    return text.split("\n")  # read_text has made CR LF one character


def _as_line(pattern: str) -> str:
    """The line for --exclude, which names files only: no comments, and nothing taken in again."""
    if not pattern.strip("/"):
        raise ConfigError(f"--exclude {pattern!r}: name a file or a directory in the folder")
    if pattern.startswith("./"):
        return pattern[1:]
    return f"\\{pattern}" if pattern[0] in "#!" else pattern
