"""The rows of `sandboxd doctor` on files of the host that programs do not see.

None of them is a fault: a file that was changed may hold a secret. The remedy is for an operator
who wants programs to see it.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator

from ..config.settings import Config
from ..jail.outward_links import hidden_links
from ..jail.public_files import Why
from ..jail.secret_names import is_secret
from ..jail.shown_files import GENERATED, Copier
from ..model import Guarantee
from ..warden.host_files import selection

_GROUP = "files of the host"
_NAMED = 4
"""Files that a row names."""

_NO_DPKG = "no dpkg on this host, so its packages have no checksums: the built-in names alone"
_NO_DPKG_REMEDY = "name what programs need: [rootfs] etc, [runtimes.NAME] paths"

_WHY: dict[Why, str] = {
    "changed": "changed on this host",
    "closed": "not readable by everybody",
    "large": "too large for the copy in memory",
    "writable": "others than root can change it",
    "linked": "it has a second name, maybe in a closed directory",
}


def rows(config: Config) -> Iterator[Guarantee]:
    """A row for what is shown, one for each directory with hidden files, one for each dead link."""
    with tempfile.TemporaryDirectory(prefix="sandboxd-doctor-") as directory:
        copier = Copier(selection(config), directory)
        shown = copier.copy()
    report = copier.report
    text = (
        f"{len(report.copied) - len(GENERATED)} files, links and directories of /etc and /var/lib"
    )
    yield Guarantee(_GROUP, "shown", "", True, False, text)
    if config.rootfs.package_files and not report.has_packages:
        yield _row("packages", _NO_DPKG, _NO_DPKG_REMEDY)
    hidden: defaultdict[tuple[str, Why], list[str]] = defaultdict(list)
    for path, why in report.left_out.items():
        # A closed directory of /var/lib has the state of a service; programs do not need it.
        if why != "closed" or path.startswith("/etc/"):
            hidden[_place(path), why].append(path)
    for (place, why), paths in sorted(hidden.items()):
        yield _row(place, f"{_WHY[why]}: {_listed(paths)}", _remedy(place, why, paths))
    visible = {*report.copied, *shown.binds}
    for path, target in sorted(hidden_links(config.rootfs.paths, visible, is_secret).items()):
        yield _row(path, f"leads to {target}, which programs do not see", _shows(target))


def _row(name: str, detail: str, remedy: str) -> Guarantee:
    return Guarantee(_GROUP, name, "", False, False, detail, remedy)


def _place(path: str) -> str:
    """The directory or file of /etc or /var/lib that has `path`."""
    parts = path.split("/")
    return "/".join(parts[: 3 if parts[1] == "etc" else 4])


def _listed(paths: list[str]) -> str:
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return ", ".join(paths[:_NAMED]) + more


def _remedy(place: str, why: Why, paths: list[str]) -> str:
    if why == "closed":
        return f"if it is no secret: chmod o+r {_listed(paths)}"
    return _shows(place if len(paths) > 1 else paths[0])


def _shows(path: str) -> str:
    """The setting that shows `path`."""
    if path.startswith("/etc/"):
        return f'if it is no secret: [rootfs] etc = ["{path.removeprefix("/etc/")}"]'
    return f'if it is no secret: [runtimes.shell] paths = ["{path}"]'
