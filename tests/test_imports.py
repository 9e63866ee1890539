"""The arrows between packages point one way, and what runs as root is standard library only."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import sandboxd

ROOT = Path(sandboxd.__file__).parent
SHARED = {
    "config", "config_file", "crash", "errors", "filewire", "log", "model", "room", "spool",
    "systemd", "wire",
}  # fmt: skip
MAY_IMPORT = {
    "jail": {"errors", "model"},
    "files": {"errors", "filewire", "jail", "model", "wire"},
    "shim": SHARED | {"files", "jail"},
    "warden": SHARED | {"files", "jail", "shim"},
    "audit": {"errors", "jail"},
    "runs": SHARED,
    "store": SHARED | {"runs"},
    "runtimes": SHARED,
    "api": SHARED | {"runs", "runtimes", "store", "__init__"},
    **dict.fromkeys(SHARED, SHARED),
}
API_MAY_IMPORT = {
    "http": set(),
    "watch": {"http"},
    "access": {"http", "watch"},
    "sessions": {"access", "http", "watch"},
    "folders": {"access", "http", "sessions", "watch"},
    "routes": {"access", "folders", "http", "sessions", "state", "watch"},
}
"""The same within the api; what stands beside its packages joins them together."""

PRIVILEGED = {"audit", "jail", "files", "shim", "warden"} | SHARED


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(ROOT.rglob("*.py")):
        part = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if part in MAY_IMPORT:
            yield part, path


def imported(path: Path) -> Iterator[tuple[str, bool]]:
    """(top module, whether it is ours) for each import of a file, wherever it stands in it."""
    depth = len(path.relative_to(ROOT).parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").split(".")[0], False
        elif isinstance(node, ast.ImportFrom) and node.level == depth:
            if node.module:
                yield node.module.split(".")[0], True
            else:
                yield from ((alias.name, True) for alias in node.names)


@pytest.mark.parametrize(("part", "path"), [pytest.param(*m, id=str(m[1])) for m in modules()])
def test_imports_follow_the_arrows(part: str, path: Path) -> None:
    for name, ours in imported(path):
        if ours:
            at_start = part == "warden" and path.name == "serve.py" and name == "api"
            known = name if (ROOT / name).exists() or (ROOT / f"{name}.py").exists() else "__init__"
            # The one place where the root half names the api: after it has given root up.
            assert known in MAY_IMPORT[part] | {part} or at_start, f"{path} imports {name}"
        elif part in PRIVILEGED:
            assert name in sys.stdlib_module_names, f"{path} imports {name}, as root"


@pytest.mark.parametrize("package", API_MAY_IMPORT)
def test_the_arrows_within_the_api_point_one_way(package: str) -> None:
    for path in (ROOT / "api" / package).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 2:
                names = [node.module] if node.module else [alias.name for alias in node.names]
                for name in names:
                    assert name.split(".")[0] in API_MAY_IMPORT[package], f"{path} imports {name}"
