"""The results of a run: the files of its session that `--get` names, fetched into a folder.

A name without a wildcard arrives under its last component, as with cp; of a name with wildcards,
the directories before the first wildcard are left out. Each such directory is one request. A result
that does not exist is reported and does not touch the others.
"""

from __future__ import annotations

import glob
import os
import shlex
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...errors import ConfigError, NotFound, Refused, SandboxdError, Unavailable
from ...files.paths import inside
from ...link_targets import Place
from ..connection.client import Client
from ..reporter import Reporter, printable
from .acceptance import Refusal, Room, is_repository_named, refusal
from .progress import progress
from .unpack import Unpacked, unpack

if TYPE_CHECKING:
    from ..connection.private_daemon import PrivateDaemon

EVERYTHING = "."

KINDS = {
    "outside": "is a link that leaves /home/work",
    "unreadable": "cannot be read",
    "too_deep": "is in more directories, or has a longer name, than a request can name",
}
"""The reasons why the server leaves entries out, in words."""

BATCH, BATCH_BYTES = 50, 4096
"""Names of one request and their bytes: the server takes no more than 8 KiB in a request's head."""


@dataclass
class Fetched:
    """The outcome: `missing` names that matched nothing, and `failed` names whose results exist but
    could not be fetched."""

    missing: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def check_writable(into: str) -> None:
    """Raises ConfigError where results cannot be put."""
    place = os.path.abspath(into)
    while not os.path.lexists(place):
        place = os.path.dirname(place)
    if not os.path.isdir(place):
        raise ConfigError(f"{into}: {place} is no folder; name one, or a new name in one")
    try:  # the only test that holds for root and for every file system
        os.rmdir(tempfile.mkdtemp(prefix=".sandboxd-", dir=place))
    except OSError as error:
        raise ConfigError(
            f"{into}: nothing can be written to {place} ({error.strerror}); name another folder"
        ) from None


def check_destination(destination: str) -> None:
    """Raises ConfigError where no file or directory of this name can be made."""
    parent = os.path.dirname(os.path.abspath(destination))
    if not os.path.isdir(parent):
        raise ConfigError(f"{destination}: there is no folder {parent}; make it first")
    check_writable(parent)


def requests(names: Iterable[str]) -> dict[Place, list[str]]:
    """Directory below /home/work -> names in it, with their wildcards; the top comes first.

    Raises ConfigError for a name outside of /home/work.
    """
    matches: defaultdict[Place, list[str]] = defaultdict(list)
    for name in names:
        try:
            parts = inside(name)
        except Refused as error:
            raise ConfigError(f"results: {error}") from None
        count = next((n for n, part in enumerate(parts) if glob.has_magic(part)), len(parts))
        where = parts[: min(count, max(len(parts) - 1, 0))]
        matches[where].append("/".join(parts[len(where) :]) or EVERYTHING)
    return dict(sorted(matches.items()))


def fetch(client: Client, session: str, names: list[str], into: str, say: Reporter) -> Fetched:
    """Fetch the results into the folder `into`, and report each of them."""
    outcome = Fetched()
    fetching = _Fetching(client, session, into, say)
    for where, matches in requests(names).items():
        try:
            outcome.missing += _names(where, fetching.fetch(where, matches))
        except (SandboxdError, OSError, tarfile.TarError) as error:
            failed = _names(where, matches)
            reason = f"{into}: {error.strerror}" if isinstance(error, OSError) else error
            say.warning(f"{' '.join(map(printable, failed))}: {reason}")
            outcome.failed += failed
    for name in outcome.missing:
        say.warning(f"{printable(name)}: the session has nothing of this name")
    return outcome


def _names(where: Place, matches: list[str]) -> list[str]:
    return ["/".join((*where, match)) for match in matches]


def command(
    session: str, names: list[str], into: str, socket: str | None, daemon: PrivateDaemon | None
) -> str:
    """The command line that fetches results later."""
    words = ["sandboxd", "get", session, *names, "--into", os.path.abspath(into), "--rm"]
    if daemon:
        words += ["--state", daemon.folder]
    elif socket is not None:
        words += ["--socket", socket]
    return shlex.join(words)


class _Fetching:
    """The results of one session on their way into one folder."""

    def __init__(self, client: Client, session: str, into: str, say: Reporter) -> None:
        self._client = client
        self._session = session
        self._into = into
        self._say = say
        self._room = Room.of_session(client, session)
        self._places: dict[str, Place] = {}
        """The names at the top of the folder so far, and the directory that each came from."""

    def fetch(self, where: Place, matches: list[str]) -> list[str]:
        """Fetch the results in one directory; the names that matched nothing."""
        missing = []
        for batch in batches(matches):
            missing += self._matching(where, batch)
        return missing

    def _matching(self, where: Place, matches: list[str]) -> list[str]:
        def placed(place: Place) -> Place:
            """Two results of one name: the second keeps its directory."""
            return place if self._places.setdefault(place[0], where) == where else where + place

        patterns = [] if EVERYTHING in matches else matches

        def refused(place: Place) -> Refusal | None:
            return refusal(patterns, place)

        def take(place: Place, size: int) -> None:
            self._room.take(where + place, size)

        def is_repository(place: Place) -> bool:
            return is_repository_named(patterns, place)

        try:
            self._room.measure()
            with (
                progress(self._say, "fetching") as advance,
                self._client.get_archive(self._session, "/".join(where), patterns) as archive,
                archive.tar(advance) as tar,
            ):
                unpacked = unpack(tar, self._into, where, placed, refused, take, is_repository)
        except NotFound:
            self._client.call("GET", f"/session/{self._session}")  # raises if the session is gone
            return matches
        for name, kind in archive.left_out:
            unpacked.left_out.append(("/".join((*where, name)), KINDS.get(kind, f"is a {kind}")))
        if more := archive.left_out_count - len(archive.left_out):
            unpacked.left_out.append((f"{more} more entries", "are no files, or links that leave"))
        self._report(unpacked)
        return archive.unmatched

    def _report(self, unpacked: Unpacked) -> None:
        for name in unpacked.names:
            self._say.phase(f"got {printable(os.path.join(self._into, name))}", got=name)
        for name, reason in unpacked.left_out:
            self._say.warning(f"{printable(name)} {printable(reason)}; left out")
        for name, reason in unpacked.failed:
            path = os.path.join(self._into, name)
            self._say.warning(f"{printable(path)}: {reason}; not fetched")
        if unpacked.failed:
            raise Unavailable(f"not everything could be put into {printable(self._into)}")


def batches(matches: list[str]) -> Iterator[list[str]]:
    """`matches` in parts that fit one request each."""
    batch: list[str] = []
    size = 0
    for match in matches:
        bytes_more = len(os.fsencode(match))
        if batch and (len(batch) == BATCH or size + bytes_more > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(match)
        size += bytes_more
    if batch:
        yield batch
