"""The imports of the package: they go one way between packages, in no circle between modules, and
what runs as root imports the standard library only."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import sandboxd

ROOT = Path(sandboxd.__file__).parent
SHARED = {
    "config", "config_file", "config_rules", "errors", "filewire", "free_space", "log", "model",
    "spool", "systemd", "wire",
}  # fmt: skip
MAY_IMPORT = {
    "jail": {"errors", "model"},
    "files": {"errors", "filewire", "jail", "model", "wire"},
    "shim": SHARED | {"files", "jail"},
    "warden": SHARED | {"files", "jail", "shim"},
    "selftest": {"errors", "jail"},
    "runs": SHARED,
    "store": SHARED | {"runs"},
    "runtimes": SHARED,
    "api": SHARED | {"runs", "runtimes", "store", "__init__"},
    **dict.fromkeys(SHARED, SHARED),
}
API_MAY_IMPORT: dict[str, set[str]] = {
    "http": set(),
    "telemetry": {"http"},
    "access": {"http", "telemetry"},
    "sessions": {"access", "http", "telemetry"},
    "folders": {"access", "http", "sessions", "telemetry"},
    "operation": {"sessions", "telemetry"},
    "routes": {"access", "folders", "http", "sessions", "state", "telemetry"},
}
"""The same within the api; the modules beside its packages join them together."""

CIRCLES_LEFT = [
    ["sandboxd.api.sessions.pending", "sandboxd.api.sessions.session"],
]
"""Circles of modules that remain to be dissolved. This list has to become empty."""

PRIVILEGED = {"jail", "files", "selftest", "shim", "warden"} | SHARED


def _paths() -> dict[str, Path]:
    """The file of each module, by its dotted name."""
    names: dict[str, Path] = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


PATHS = _paths()


def imports(module: str, paths: Mapping[str, Path] = PATHS) -> Iterator[str]:
    """The full names of all that a module imports, wherever in it: at its top, in a function, or
    for the type checker only."""
    path = paths[module]
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            for alias in node.names:
                submodule = f"{origin}.{alias.name}"
                yield submodule if submodule in paths else origin


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The groups of modules each of which imports all others of its group, directly or not: the
    strongly connected components of more than one module (Tarjan's algorithm)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    components: list[list[str]] = []

    def visit(module: str) -> None:
        order[module] = lowest[module] = len(order)
        stack.append(module)
        for other in sorted(graph[module]):
            if other not in order:
                visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in stack:
                lowest[module] = min(lowest[module], order[other])
        if lowest[module] == order[module]:
            start = stack.index(module)
            components.append(sorted(stack[start:]))
            del stack[start:]

    for module in sorted(graph):
        if module not in order:
            visit(module)
    return sorted(component for component in components if len(component) > 1)


def part_of(module: str) -> str:
    """The first name below sandboxd; "__init__" for the package itself."""
    return module.split(".")[1] if "." in module else "__init__"


@pytest.mark.parametrize("module", [name for name in PATHS if part_of(name) in MAY_IMPORT])
def test_a_module_imports_only_packages_that_are_below_its_own(module: str) -> None:
    part = part_of(module)
    for name in imports(module):
        if name == "sandboxd" or name.startswith("sandboxd."):
            # The one place where the root half names the api: after it has given root up.
            at_start = module == "sandboxd.warden.startup" and part_of(name) == "api"
            assert part_of(name) in MAY_IMPORT[part] | {part} or at_start, name
        elif part in PRIVILEGED:
            root = name.split(".")[0]
            assert root in sys.stdlib_module_names, f"{module} imports {name}, and runs as root"


@pytest.mark.parametrize("package", API_MAY_IMPORT)
def test_a_package_of_the_api_imports_only_packages_that_are_below_it(package: str) -> None:
    for module in PATHS:
        if module.startswith(f"sandboxd.api.{package}."):
            for name in imports(module):
                if name.startswith("sandboxd.api."):
                    other = name.split(".")[2]
                    assert other in API_MAY_IMPORT[package] | {package}, f"{module} imports {name}"


def test_every_package_of_the_api_has_its_place_in_the_order() -> None:
    assert {path.parent.name for path in (ROOT / "api").glob("*/__init__.py")} == {*API_MAY_IMPORT}


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {module: {*imports(module)} & {*PATHS} - {module} for module in PATHS}
    assert circles(graph) == CIRCLES_LEFT


@pytest.mark.parametrize(
    ("text", "circle"),
    [
        ("from . import b", True),
        ("from .b import name", True),
        ("from pack import b", True),
        ("import pack.b", True),
        ("def late():\n    from .b import name", True),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .b import name", True),
        ("import json", False),
    ],
)
def test_a_circle_is_seen_in_whatever_form_it_is_written(
    tmp_path: Path, text: str, circle: bool
) -> None:
    sources = {
        "pack": "",
        "pack.a": text,
        "pack.b": "from .c import x",
        "pack.c": "from . import a",
    }
    paths = {}
    for name, source in sources.items():
        paths[name] = tmp_path / ("__init__.py" if name == "pack" else f"{name}.py")
        paths[name].write_text(source)
    graph = {name: {*imports(name, paths)} & {*paths} - {name} for name in paths}
    assert circles(graph) == ([["pack.a", "pack.b", "pack.c"]] if circle else [])
