"""The words of refused archives: the member as the archive names it, the reason, the remedy."""

from __future__ import annotations

import tarfile

import pytest

from .scratch import Scratch
from .test_unpacking_refused import refused, with_tree
from .trees import File, Member, directory, entry, hard_link, link

WORDS: dict[str, tuple[list[Member], str]] = {
    "through a link": (
        [link("l", "d"), directory("d"), File("l/x")], "'l/x' goes through 'l', which is a link",
    ),
    "through a file": ([File("g"), File("g/x")], "'g/x' goes through 'g', which is a file"),
    "a directory and a link": (
        [link("l", "d"), directory("l")], "'l' is a link and a directory in the archive",
    ),
    "a file and a directory": (
        [directory("g"), File("g")], "'g' is a file and a directory in the archive",
    ),
    "hard link to a directory": (
        [directory("g"), hard_link("h", "g")], "'h' is a hard link to 'g', a directory",
    ),
    "hard link that climbs": (
        [hard_link("h", "../../etc/passwd")], "'h' is a hard link to '../../etc/passwd', which ",
    ),
    "hard link to a file of the tree": ([hard_link("h", "d/f")], "--hard-dereference"),
    "absolute": ([File("/etc/passwd")], "without the option -P of tar"),
    "climbing": ([File("../x")], "'../x' has a \"..\" in it"),
    "sparse": ([entry("odd", tarfile.GNUTYPE_SPARSE)], "'odd' is packed as a sparse file; pack"),
    "device": ([entry("odd", tarfile.CHRTYPE)], "'odd' is a device; allowed: files"),
    "long component": ([File("c" * 256)], "'ccc"),
    "time": ([File("x", ns=1 << 70)], "'x' has the time '1180591620717'; allowed"),
    "file over a directory of the session": (
        [File("d/e")], "is a directory in the session and a file or a link in the archive",
    ),
}  # fmt: skip


@pytest.mark.parametrize("path", [".", "sub"])
@pytest.mark.parametrize("way", WORDS)
def test_refusal_names_the_member_as_the_archive_does(
    scratch: Scratch, way: str, path: str
) -> None:
    with_tree(scratch)
    (scratch.home / "sub/d/e").mkdir(parents=True)
    members, words = WORDS[way]
    assert words in refused(scratch, *members, path=path).error
