"""The copy of the host's files below /etc and /var/lib that every jail shows, read-only.

It is made once, before any run, in a directory that rootfs.py binds as /etc and /var/lib. So it
costs a run two mounts, and a program can neither see nor lock a file of the host. It has:

    generated      a few files that are the same on every host
    built in       names below /etc without secrets by their nature, changed or not (config.ETC)
    of runtimes    paths that runtimes name, but for files that differ from their package
    of packages    files that a package ships and that are unchanged (package_files.py)
    behind links   data of root below /var/lib that links of the visible directories lead to

Nothing else is copied: only public files (public_files.py), and none with the name of a secret
(secret_names.py). The checksum of a package's file is compared with the very bytes that are copied,
so a change between check and copy shows nothing. A link is copied as a link: it leads to what is
shown, or nowhere. In a directory that a runtime names, a file of no package stays hidden: it may
be anybody's. On a host whose package manager is not dpkg nothing is known of packages; there it
is shown.

Names of the operator (`[rootfs] etc`) are not copied. The copy has an empty place for each, over
which a run mounts the host's file, with its mode.
"""

from __future__ import annotations

import glob
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from . import package_files
from .outward_links import DEPTH, is_below, links_out
from .public_files import TREES, PublicFile, PublicFiles, Why
from .secret_names import is_secret

NSSWITCH = "passwd: files\ngroup: files\nshadow: files\nhosts: files\nservices: files\n"
HOSTS = "127.0.0.1 localhost sandbox\n::1 localhost ip6-localhost\n"

GENERATED = {
    "/etc/nsswitch.conf": NSSWITCH,
    "/etc/hosts": HOSTS,
    "/etc/hostname": "sandbox\n",
    "/etc/resolv.conf": "",
    "/etc/passwd": "",  # these two are of each session; rootfs.py mounts its own files here
    "/etc/group": "",
}

GENERATED_LINKS = {"/var/lib/php/sessions": "/tmp"}
"""Debian's directory for the sessions of PHP, in which only root may list."""

SIZE_MAX = 64 << 20
"""Bytes of all files of the copy."""

ENTRIES_MAX = 50_000
"""Files, links and directories below the paths that are looked through."""

DEPTH_MAX = 64
"""Components of a path; deeper ones are left out."""

LINKS_MAX = 40  # as the kernel: path_resolution(7), ELOOP


@dataclass(frozen=True, slots=True)
class Selection:
    """The files to show; names and paths may have * and ? as wildcards.

    names     below /etc, without secrets by their nature
    own       below /etc, of the operator, to bind as they are
    paths     of runtimes, absolute
    packages  unchanged files of packages are shown too
    visible   the directories of the host in which links are searched
    """

    names: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    packages: bool = True
    visible: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Shown:
    """The result of a copy.

    directory  has the copies etc and var/lib
    binds      the paths of the host to bind over it, or elsewhere, as they are
    """

    directory: str
    binds: tuple[str, ...] = ()


@dataclass
class Report:
    """The paths that were copied, and those that were left out with the reason.

    has_packages  the package manager knows checksums of files below /etc
    """

    copied: set[str] = field(default_factory=set)
    left_out: dict[str, Why] = field(default_factory=dict)
    has_packages: bool = False


class Copier:
    """Copies the selected files of the host at `root` into `target`. `root` serves the tests."""

    def __init__(self, selection: Selection, target: str, root: str = "/") -> None:
        self.report = Report()
        self._selection = selection
        self._target = target
        self._root = root.rstrip("/")
        self._shipped: dict[str, set[str]] = {}
        self._installed: dict[str, set[str]] = {}
        if selection.packages or selection.paths:
            self._shipped = package_files.checksums(root)
            self._installed = package_files.installed(root) | self._shipped
        self.report.has_packages = bool(self._shipped)
        self._times: dict[str, tuple[int, int]] = {}
        self._size = 0
        self._visited = 0
        self._binds: list[str] = []

    def copy(self) -> Shown:
        """Make the copy; call it once."""
        self._public = PublicFiles(self._root)
        try:
            os.makedirs(self._target, exist_ok=True)
            for tree in TREES:
                self._make_directory(tree)
            self._generate()
            for name in self._selection.own:
                self._bind(f"/etc/{name}")
            for name in self._selection.names:
                for path in self._matches(f"/etc/{name}"):
                    for each in self._files_below(path):
                        self._file(each, None)
            for pattern in self._selection.paths:
                self._copy_path(pattern)
            if self._selection.packages:
                self._copy_packages()
            for path in links_out(self._selection.visible, self._root, DEPTH):
                self._follow(path)
            for path, times in self._times.items():
                os.utime(self._target + path, ns=times)
            return Shown(self._target, tuple(self._binds))
        finally:
            self._public.close()

    def _generate(self) -> None:
        for path, text in GENERATED.items():
            self._write(path, text.encode(), 0o444)
        for path, target in GENERATED_LINKS.items():
            self._make_directory(os.path.dirname(path))
            os.symlink(target, self._target + path)
            self.report.copied.add(path)

    def _matches(self, pattern: str) -> list[str]:
        paths = glob.glob(glob.escape(self._root) + pattern)
        return sorted(os.path.normpath(path.removeprefix(self._root)) for path in paths)

    def _bind(self, pattern: str) -> None:
        """Reserve places in the copy, over which the matching paths are bound. The operator
        decides, so no rule is asked."""
        for path in self._matches(pattern):
            shown = path in self.report.copied or is_below(path, self._binds)
            if shown or os.path.islink(self._root + path):
                continue
            if is_below(path, TREES):
                if os.path.isdir(self._root + path):
                    self._make_directory(path)
                else:
                    self._write(path, b"", 0o444)
            self._binds.append(path)

    def _copy_path(self, pattern: str) -> None:
        """Copy what a runtime names below /etc; other paths are to be bound."""
        if not pattern.startswith("/etc/"):
            self._bind(pattern)
            return
        for path in self._matches(pattern):
            for each in self._files_below(path):
                known = self._installed.get(each)
                if known or each == path or not self.report.has_packages:
                    self._file(each, known)

    def _files_below(self, path: str) -> Iterator[str]:
        """`path`, or the files in it. The links and directories on the way are copied at once."""
        self._visited += 1
        if self._visited > ENTRIES_MAX or path.count("/") > DEPTH_MAX:
            self.report.left_out[path] = "large"
            return
        mode = self._public.mode(path)
        if is_secret(path) or is_below(path, self._binds):
            return
        if stat.S_ISLNK(mode):
            self._link(path)
        elif not stat.S_ISDIR(mode):
            yield path
        elif self._public.may_enter(path):
            self._make_directory(path)
            for name in self._public.names(path):
                yield from self._files_below(f"{path}/{name}")
        else:
            self.report.left_out[path] = "closed"

    def _copy_packages(self) -> None:
        for path, known in sorted(self._shipped.items()):
            if not is_secret(path) and not is_below(path, self._binds):
                self._file(path, known)
        for path in package_files.links(self._root or "/"):
            if not is_secret(path) and self._leads_in(path):
                self._link(path)

    def _leads_in(self, path: str) -> bool:
        """The link at `path` leads, in one step, below /usr or to what is in the copy."""
        place = self._public.target(path)
        return place is not None and (place.startswith("/usr/") or place in self.report.copied)

    def _follow(self, path: str) -> None:
        """Copy what the link at `path` leads to: links on the way, and data of root."""
        for _ in range(LINKS_MAX):
            place = self._public.target(path)
            if place is None or not self._public.may_enter(os.path.dirname(place)):
                return
            if not is_below(place, TREES) or place in TREES or is_secret(place):
                return
            path = place
            if not stat.S_ISLNK(self._public.mode(path)):
                break
            self._link(path)
        if path.startswith("/var/lib/") and self._public.mode(path):
            for each in self._files_below(path):
                self._file(each, self._shipped.get(each))

    def _file(self, path: str, known: set[str] | None) -> None:
        """Copy a file whose checksum must be one of `known`; None: it may be any."""
        if path in self.report.copied:
            return
        file = self._public.read(path, known is not None)
        if isinstance(file, PublicFile):
            why = self._obstacle(file, known)
            if why is None:
                self._write(path, file.content, file.mode & 0o555)
                os.utime(self._target + path, ns=file.times)
                self.report.left_out.pop(path, None)
                return
        else:
            why = file
        if why != "absent":
            self.report.left_out[path] = why

    def _obstacle(self, file: PublicFile, known: set[str] | None) -> Why | None:
        if known is not None:
            checksum = hashlib.md5(file.content, usedforsecurity=False).hexdigest()
            if checksum not in known:
                return "changed"
        return "large" if self._size + len(file.content) > SIZE_MAX else None

    def _link(self, path: str) -> None:
        text = self._public.text(path)
        if text is None or os.path.lexists(self._target + path):
            return
        self._make_directory(os.path.dirname(path))
        os.symlink(text, self._target + path)
        self.report.copied.add(path)

    def _write(self, path: str, content: bytes, mode: int) -> None:
        if os.path.lexists(self._target + path):
            return
        self._make_directory(os.path.dirname(path))
        fd = os.open(self._target + path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(fd, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
        self._size += len(content)
        self.report.copied.add(path)

    def _make_directory(self, path: str) -> None:
        """A directory of the copy, with those above it. Its time is set at the end: caches of
        fonts compare it."""
        if os.path.isdir(self._target + path):
            return
        self._make_directory(os.path.dirname(path))
        os.mkdir(self._target + path)
        os.chmod(self._target + path, 0o755)  # whatever the umask is
        self.report.copied.add(path)
        try:
            status = os.stat(self._root + path)
        except OSError:  # a directory of generated files
            return
        self._times[path] = (status.st_atime_ns, status.st_mtime_ns)


def stamp(selection: Selection) -> tuple[object, ...]:
    """A value that changes when a package is installed or removed, or a named file is replaced.

    It is compared before each run, so it looks at the names only and not at the files in them.
    """
    paths = [package_files.STATUS, package_files.UCF]
    paths += [f"/etc/{name}" for name in selection.names if not glob.has_magic(name)]
    bound = [f"/etc/{name}" for name in selection.own]
    bound += [path for path in selection.paths if not path.startswith("/etc/")]
    places = sorted({path for pattern in bound for path in glob.glob(pattern)})
    return (*map(_version, paths), *((path, os.path.isdir(path)) for path in places))


def _version(path: str) -> tuple[int, ...]:
    try:
        status = os.lstat(path)
    except OSError:
        return ()
    return status.st_ino, status.st_mtime_ns, status.st_size
