"""The copy of the host's files below /etc and /var/lib that every jail shows, read-only.

It is made once, before any run, in a directory that rootfs.py binds as /etc and /var/lib. So it
costs a run two mounts, and a program can neither see nor lock a file of the host. It has:

    generated      a few files that are the same on every host
    named          names below /etc of the configuration, and the paths of runtimes
    of packages    files that a package ships and that are unchanged (package_files.py)
    behind links   data of root below /var/lib that links of the visible directories lead to

Nothing else is copied. A file must be readable by everybody, in directories that everybody may
enter, and is opened without following a link. The checksum of a package's file is compared with the
very bytes that are copied, so a change between check and copy shows nothing. A link is copied as a
link: it leads to what is shown, or nowhere. A name of the configuration is shown even if the file
was changed; a path of a runtime is not, if a package ships the file and its checksum differs.
"""

from __future__ import annotations

import glob
import hashlib
import os
import stat
from dataclasses import dataclass, field
from typing import Literal

from . import package_files, syscalls
from .outward_links import DEPTH, is_below, links_out

NSSWITCH = "passwd: files\ngroup: files\nshadow: files\nhosts: files\nservices: files\n"
HOSTS = "127.0.0.1 localhost sandbox\n::1 localhost ip6-localhost\n"
PHP_SESSIONS = "; Debian's directory for sessions can only be written by its web server.\n"

GENERATED = {
    "/etc/nsswitch.conf": NSSWITCH,
    "/etc/hosts": HOSTS,
    "/etc/hostname": "sandbox\n",
    "/etc/resolv.conf": "",
    "/etc/passwd": "",  # these two are of each session; rootfs.py mounts its own files here
    "/etc/group": "",
    "/etc/sandboxd/php/sessions.ini": f"{PHP_SESSIONS}session.save_path = /tmp\n",
}

SECRET = (
    "/etc/shadow", "/etc/gshadow", "/etc/shadow-", "/etc/gshadow-", "/etc/passwd-", "/etc/group-",
    "/etc/subuid", "/etc/subgid", "/etc/security/opasswd", "/etc/sudoers", "/etc/sudoers.d",
    "/etc/ssh", "/etc/ssl/private", "/etc/pki/tls/private", "/etc/krb5.keytab", "/etc/letsencrypt",
    "/etc/ipsec.d", "/etc/ipsec.secrets", "/etc/wireguard", "/etc/openvpn", "/etc/ppp",
    "/etc/wpa_supplicant", "/etc/NetworkManager/system-connections", "/etc/docker",
    "/etc/kubernetes", "/etc/sandboxd", "/var/lib/dpkg", "/var/lib/private", "/var/lib/sandboxd",
)  # fmt: skip
"""Places of secrets. A package's file there is not shown even if it is unchanged: one wall more."""

FILE_MAX = 16 << 20
"""Bytes of a file; a larger one is left out, since the copy is in memory."""

LINKS_MAX = 40  # as the kernel: path_resolution(7), ELOOP

TREES = ("/etc", "/var/lib")
"""The parts of the host of which there is a copy."""

Why = Literal["changed", "closed", "large", "absent"]

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
_BENEATH = syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS


@dataclass(frozen=True, slots=True)
class Selection:
    """The files to show.

    names     below /etc, with * and ? as wildcards
    paths     of runtimes, absolute, with wildcards
    packages  unchanged files of packages are shown too
    visible   the directories of the host in which links are searched
    """

    names: tuple[str, ...]
    paths: tuple[str, ...] = ()
    packages: bool = True
    visible: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Shown:
    """The result of a copy.

    directory  has the copies etc and var/lib
    binds      the paths of runtimes that are not below /etc, to bind as they are
    """

    directory: str
    binds: tuple[str, ...] = ()


@dataclass
class Report:
    """The paths that were copied, and those that were left out with the reason."""

    copied: set[str] = field(default_factory=set)
    left_out: dict[str, Why] = field(default_factory=dict)


class Copier:
    """Copies the selected files of the host at `root` into `target`. `root` serves the tests."""

    def __init__(self, selection: Selection, target: str, root: str = "/") -> None:
        self.report = Report()
        self._selection = selection
        self._target = target
        self._root = root.rstrip("/")
        needed = selection.packages or selection.paths
        self._checksums = package_files.checksums(root) if needed else {}
        self._owner = os.stat(self._root or "/").st_uid
        self._enterable: dict[str, bool] = {}
        self._times: dict[str, tuple[int, int]] = {}
        self._trees = {
            tree: os.open(self._root + tree, os.O_PATH | os.O_DIRECTORY)
            for tree in TREES
            if os.path.isdir(self._root + tree)
        }

    def copy(self) -> Shown:
        """Make the copy; call it once."""
        try:
            os.makedirs(self._target, exist_ok=True)
            for tree in TREES:
                self._make_directory(tree)
            for path, text in GENERATED.items():
                self._write(path, text.encode(), 0o444)
            for name in self._selection.names:
                for path in self._matches(f"/etc/{name}"):
                    self._copy_named(path, even_if_changed=True)
            binds = self._copy_runtimes()
            if self._selection.packages:
                self._copy_packages()
            for path in links_out(self._selection.visible, self._root, DEPTH):
                self._follow(path, binds)
            for path, times in self._times.items():
                os.utime(self._target + path, ns=times)
            return Shown(self._target, tuple(binds))
        finally:
            for fd in self._trees.values():
                os.close(fd)

    def _matches(self, pattern: str) -> list[str]:
        paths = glob.glob(glob.escape(self._root) + pattern)
        return sorted(path.removeprefix(self._root) for path in paths)

    def _copy_runtimes(self) -> list[str]:
        """Copy the runtimes' paths below /etc; the others are to be bound."""
        binds = []
        for pattern in self._selection.paths:
            for path in self._matches(pattern):
                if path.startswith("/etc/"):
                    self._copy_named(path, even_if_changed=False)
                elif not os.path.islink(self._root + path):
                    self._make_place(path)
                    binds.append(path)
        return binds

    def _make_place(self, path: str) -> None:
        """An empty directory or file in the copy, over which `path` is bound."""
        if not path.startswith("/var/lib/"):
            return
        if os.path.isdir(self._root + path):
            self._make_directory(path)
        else:
            self._write(path, b"", 0o444)

    def _copy_named(self, path: str, even_if_changed: bool) -> None:
        """Copy a file, a link or a directory with all in it."""
        source = self._root + path
        if path in self.report.copied:
            return
        if os.path.islink(source):
            self._link(path)
        elif not os.path.isdir(source):
            self._file(path, None if even_if_changed else self._checksums.get(path))
        elif self._may_enter(path):
            self._make_directory(path)
            for name in sorted(os.listdir(source)):
                self._copy_named(f"{path}/{name}", even_if_changed)
        else:
            self.report.left_out[path] = "closed"

    def _copy_packages(self) -> None:
        for path, known in sorted(self._checksums.items()):
            if path not in self.report.copied and not is_secret(path):
                self._file(path, known)
        for path in package_files.links(self._root or "/"):
            if path not in self.report.copied and not is_secret(path) and self._leads_in(path):
                self._link(path)

    def _follow(self, path: str, binds: list[str]) -> None:
        """Copy what the link at `path` leads to: links on the way, and data of root."""
        for _ in range(LINKS_MAX):
            target = os.path.join(os.path.dirname(path), os.readlink(self._root + path))
            path = os.path.normpath(target)
            below = next((tree for tree in TREES if path.startswith(f"{tree}/")), None)
            if below is None or is_secret(path) or not self._may_enter(os.path.dirname(path)):
                return
            if not os.path.islink(self._root + path):
                break
            self._link(path)
        if below == "/var/lib" and not is_below(path, binds):
            self._copy_data(path)

    def _copy_data(self, path: str) -> None:
        source = self._root + path
        try:
            status = os.lstat(source)
        except OSError:  # the link leads to nothing on the host either
            return
        if status.st_uid != self._owner or path in self.report.copied:
            return
        if stat.S_ISDIR(status.st_mode) and self._may_enter(path):
            for name in sorted(os.listdir(source)):
                self._copy_data(f"{path}/{name}")
        elif stat.S_ISREG(status.st_mode):
            self._file(path, None)

    def _leads_in(self, path: str) -> bool:
        """The link at `path` leads, in one step, below /usr or to what is in the copy."""
        target = os.readlink(self._root + path)
        place = os.path.normpath(os.path.join(os.path.dirname(path), target))
        return place.startswith("/usr/") or place in self.report.copied

    def _file(self, path: str, known: set[str] | None) -> None:
        """Copy a file whose checksum must be one of `known`; None: it may be any."""
        data = self._read(path)
        if isinstance(data, str):
            if data != "absent":
                self.report.left_out[path] = data
            return
        content, mode, times = data
        if known is not None:
            checksum = hashlib.md5(content, usedforsecurity=False).hexdigest()
            if checksum not in known:
                self.report.left_out[path] = "changed"
                return
        self._write(path, content, mode & 0o555)
        os.utime(self._target + path, ns=times)

    def _read(self, path: str) -> tuple[bytes, int, tuple[int, int]] | Why:
        """The bytes, mode and times of a file that everybody may read, or why there are none."""
        tree = next((tree for tree in self._trees if path.startswith(f"{tree}/")), None)
        if tree is None:
            return "absent"
        if not self._may_enter(os.path.dirname(path)):
            return "closed"
        try:
            fd = syscalls.openat2(self._trees[tree], path[len(tree) + 1 :], _READ, _BENEATH)
        except OSError:
            return "absent"  # or a link, which is not followed
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return "absent"
            if not status.st_mode & stat.S_IROTH:
                return "closed"
            with open(fd, "rb", closefd=False) as file:
                content = file.read(FILE_MAX + 1)
        finally:
            os.close(fd)
        if len(content) > FILE_MAX:
            return "large"
        return content, status.st_mode, (status.st_atime_ns, status.st_mtime_ns)

    def _may_enter(self, directory: str) -> bool:
        """Everybody may enter `directory` and those above it."""
        if directory in TREES or directory in ("", "/"):
            return True
        if directory not in self._enterable:
            try:
                mode = os.lstat(self._root + directory).st_mode
            except OSError:
                mode = 0
            self._enterable[directory] = (
                stat.S_ISDIR(mode)
                and bool(mode & stat.S_IXOTH)
                and self._may_enter(os.path.dirname(directory))
            )
        return self._enterable[directory]

    def _link(self, path: str) -> None:
        if os.path.lexists(self._target + path):
            return
        self._make_directory(os.path.dirname(path))
        os.symlink(os.readlink(self._root + path), self._target + path)
        self.report.copied.add(path)

    def _write(self, path: str, content: bytes, mode: int) -> None:
        if os.path.lexists(self._target + path):
            return
        self._make_directory(os.path.dirname(path))
        fd = os.open(self._target + path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(fd, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
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


def is_secret(path: str) -> bool:
    """`path` is in a place of secrets."""
    return is_below(path, SECRET)


def stamp(selection: Selection) -> tuple[object, ...]:
    """A value that changes when a package is installed or removed, or a named file is replaced.

    It is compared before each run, so it looks at the names only and not at the files in them.
    """
    paths = [package_files.STATUS]
    paths += [f"/etc/{name}" for name in selection.names if not glob.has_magic(name)]
    return tuple(map(_version, paths))


def _version(path: str) -> tuple[int, ...]:
    try:
        status = os.lstat(path)
    except OSError:
        return ()
    return status.st_ino, status.st_mtime_ns, status.st_size
