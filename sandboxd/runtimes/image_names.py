"""The names in an image reference. Pure text, no I/O.

Clients write [REGISTRY[:PORT]/][REPOSITORY/]NAME[:TAG][@DIGEST], as for container tools (the
grammar is in the reference package of the OCI distribution project). Only NAME has a meaning here:
sandboxd has no registry, and the host decides the version.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import Invalid

MAX = 512
"""Characters of a reference at most."""

_PREFIXES = ("kernel-", "runtime-")


def candidates(image: str) -> Iterator[str]:
    """The runtime names that `image` may stand for, the most literal first, all in lower case.

    Raises Invalid for a text that is no reference.
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
        raise Invalid(f"an image name has 1 to {MAX} printable characters")
