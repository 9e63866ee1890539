"""The making of a release; see scripts/release for its options.

All work is done in a clone of the checkout, `build/release`, so that a failure at any step leaves
the checkout as it is. At the end the checkout takes the commit and the tag from the clone.
"""

from __future__ import annotations

import argparse
import datetime
import re
import shutil
import subprocess
import sys
from pathlib import Path

from packaging.version import InvalidVersion, Version

from sandboxd import __version__

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "release"
UNRELEASED = re.compile(r"^## (\S+) \(unreleased\)$", re.MULTILINE)
ASSIGNMENT = re.compile(r'^__version__ = "[^"]+"$', re.MULTILINE)


class Refused(Exception):
    """The reason why there is no release."""


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """The output of a command that must succeed."""
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise Refused(f"{' '.join(map(str, command))}: exit status {done.returncode}")
    return done.stdout


def parsed(text: str) -> Version:
    """The version, in its normal form only. Raises Refused."""
    try:
        version = Version(text)
    except InvalidVersion:
        raise Refused(f"{text} is no version of PEP 440") from None
    if str(version) != text:
        raise Refused(f"{text} is not in its normal form, which is {version}")
    return version


def check(version: Version, root: Path = ROOT) -> None:
    """Refuse a version that is not above the last, or a checkout with changes."""
    if run("git", "status", "--porcelain", cwd=root):
        raise Refused("the checkout has changes that are not committed")
    tags = run("git", "tag", "--list", "v*", cwd=root).split()
    if f"v{version}" in tags:
        raise Refused(f"the tag v{version} exists")
    released = [Version(tag[1:]) for tag in tags if re.fullmatch(r"v\d+(\.\d+)*\w*", tag)]
    if released and version <= max(released):
        raise Refused(f"{version} is not above the last release, {max(released)}")
    if not released and version < Version(__version__):
        raise Refused(f"{version} is below the version of the checkout, {__version__}")


def dated(changelog: str, version: Version, day: datetime.date) -> str:
    """The changelog with its unreleased section as that of the version. Raises Refused."""
    sections = UNRELEASED.findall(changelog)
    if len(sections) != 1:
        raise Refused(f"CHANGELOG.md has {len(sections)} unreleased sections instead of one")
    return UNRELEASED.sub(f"## {version} ({day.isoformat()})", changelog)


def numbered(module: str, version: Version) -> str:
    """The text of sandboxd/__init__.py with the version. Raises Refused."""
    text, count = ASSIGNMENT.subn(f'__version__ = "{version}"', module)
    if count != 1:
        raise Refused("sandboxd/__init__.py has no single __version__")
    return text


def prepare(version: Version) -> None:
    """Clone the checkout to WORK and set the version there."""
    shutil.rmtree(WORK, ignore_errors=True)
    run("git", "clone", "--quiet", ROOT, WORK)
    changelog, module = WORK / "CHANGELOG.md", WORK / "sandboxd" / "__init__.py"
    today = datetime.datetime.now(datetime.UTC).date()
    changelog.write_text(dated(changelog.read_text(), version, today))
    module.write_text(numbered(module.read_text(), version))
    for name in ("user.name", "user.email"):
        run("git", "config", name, run("git", "config", name).strip(), cwd=WORK)
    run("git", "commit", "--quiet", "--all", "--message", f"Release {version}", cwd=WORK)
    run("git", "tag", "--annotate", "--message", f"sandboxd {version}", f"v{version}", cwd=WORK)


def build() -> Path:
    """Build the wheel and the source archive; the path of the wheel."""
    run(sys.executable, "-P", "-m", "build", "--outdir", "dist", ".", cwd=WORK)
    (wheel,) = (WORK / "dist").glob("*.whl")
    return wheel


def try_wheel(wheel: Path, version: Version) -> None:
    """Install the wheel in a new environment, and run a program with its command."""
    environment = WORK / "trial"
    run("/usr/bin/python3", "-I", "-m", "venv", environment)
    pip = (environment / "bin" / "python", "-I", "-m", "pip", "install", "--quiet")
    run(*pip, "--constraint", WORK / "constraints.txt", wheel, cwd=WORK)
    command, example = environment / "bin" / "sandboxd", WORK / "examples" / "report"
    if run(command, "--version", cwd=WORK).split() != ["sandboxd", str(version)]:
        raise Refused("the installed command has another version")
    output = run(command, "run", example, "--exec", "*", cwd=WORK)
    if not output.strip():
        raise Refused("the example printed nothing")


def main() -> int:
    """Make the release; 1 and one line on standard error if that is refused."""
    options = argparse.ArgumentParser(prog="scripts/release")
    options.add_argument("--dry-run", action="store_true", help="change nothing here")
    options.add_argument("version", metavar="VERSION")
    args = options.parse_args()
    try:
        version = parsed(args.version)
        check(version)
        prepare(version)
        wheel = build()
        try_wheel(wheel, version)
        if args.dry_run:
            print(f"{version} can be released; its files are in {WORK / 'dist'}")
            return 0
        run("git", "fetch", "--quiet", WORK, f"refs/tags/v{version}:refs/tags/v{version}")
        run("git", "merge", "--quiet", "--ff-only", f"v{version}")
        shutil.copytree(WORK / "dist", ROOT / "dist", dirs_exist_ok=True)
    except Refused as error:
        print(f"scripts/release: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(WORK / "trial", ignore_errors=True)
    print(f"{version} is committed and tagged, and its files are in dist/; push both when ready")
    return 0


if __name__ == "__main__":
    sys.exit(main())
