"""A small host with the database of its packages, for tests of the copy of its files."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from sandboxd.jail import shown_files
from sandboxd.jail.shown_files import Copier, Report, Selection

SECRET = "the password of the host"


NOTHING = Selection(names=())


@dataclass
class Host:
    """A host's file system at `root`, with the database of its packages, and the copies of it."""

    root: Path
    target: Path
    report: Report

    def put(self, path: str, text: str, mode: int = 0o644) -> Path:
        """Write a file of no package."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(mode)
        return place

    def ship(self, path: str, text: str, mode: int = 0o644) -> Path:
        """Install a package with one file that may be changed."""
        with open(self.root / "var/lib/dpkg/status", "a") as status:
            status.write(f"Package: {path.rpartition('/')[2]}\nConffiles:\n {path} {md5(text)}\n\n")
        return self.put(path, text, mode)

    def ship_data(self, path: str, text: str) -> Path:
        """Install a package with one file that is not to be changed."""
        name = path.strip("/").replace("/", "-")
        (self.root / f"var/lib/dpkg/info/{name}.md5sums").write_text(
            f"{md5(text)}  {path.lstrip('/')}\n"
        )
        return self.put(path, text)

    def link(self, path: str, target: str, package: bool = True) -> None:
        """Make a symbolic link, of a package or not."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)
        if package:
            name = path.strip("/").replace("/", "-")
            (self.root / f"var/lib/dpkg/info/{name}.list").write_text(f"/.\n{path}\n")

    def copy(self, selection: Selection = NOTHING) -> dict[str, str]:
        """The files of a copy, by path, without the generated ones; a link as "-> target"."""
        copier = Copier(selection, str(self.target), str(self.root))
        umask = os.umask(0o077)  # as the daemon has it
        try:
            self.shown, self.report = copier.copy(), copier.report
        finally:
            os.umask(umask)
        files = {}
        links = shown_files.GENERATED_LINKS
        for place in self.target.rglob("*"):
            path = "/" + str(place.relative_to(self.target))
            if links.get(path) == (os.readlink(place) if place.is_symlink() else ""):
                continue
            assert place.is_symlink() or place.stat().st_mode & 0o444 == 0o444
            assert not place.is_dir() or place.stat().st_mode & 0o777 == 0o755
            if place.is_symlink():
                files[path] = f"-> {os.readlink(place)}"
            elif place.is_file() and path not in shown_files.GENERATED:
                files[path] = place.read_text()
        return files


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()
