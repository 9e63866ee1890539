"""The names in an image reference. Pure text, no I/O.

Clients say [REGISTRY[:PORT]/][REPOSITORY/]NAME[:TAG][@DIGEST], as container tools do (the
grammar is in the reference package of the OCI distribution project). Here only NAME means
something: there is no registry to fetch from, and the version is the host's.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import Invalid

MAX = 512
"""Characters of a reference."""

_PREFIXES = ("kernel-", "runtime-")


def candidates(image: str) -> Iterator[str]:
    """The names that `image` may mean, the most literal first, all in lower case.

    Raises Invalid for a text that is no reference at all.
    """
    _check(image)
    yield image.lower()
    name = image.partition("@")[0].rpartition("/")[2].partition(":")[0].lower()
    if not name:
        raise Invalid(f"image {image!r} has no name; expected one like python or gcc:latest")
    yield name
    for prefix in _PREFIXES:
        if name.startswith(prefix):
            yield name.removeprefix(prefix)


def _check(image: str) -> None:
    if not image or len(image) > MAX or not image.isprintable():
        raise Invalid(f"an image is named by 1 to {MAX} printable characters")
