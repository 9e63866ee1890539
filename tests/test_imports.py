"""The imports of the package: they go one way between packages, in no circle between modules, and
what runs as root imports the standard library only."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from sandboxd.jail import syscalls
from scripts.measures.imports import edges, module_circles, typing_circles
from scripts.measures.tree import PACKAGE, Tree

from .each_case import each_case

ROOT = Path(__file__).parents[1]
SHARED = {
    "config", "crash", "errors", "host", "link_targets", "log", "model", "network_hosts",
    "protections", "spool", "systemd", "threads", "wire",
}  # fmt: skip
MAY_IMPORT = {
    "jail": {"errors", "host", "model"},
    "files": {"errors", "jail", "link_targets", "model", "wire"},
    "shim": SHARED | {"files", "jail"},
    "warden": SHARED | {"files", "jail", "runtimes", "shim"},
    "selftest": {"errors", "host", "jail", "protections"},
    "broker": {"config.network_profiles", "errors", "log", "model", "network_hosts", "wire"},
    "runs": SHARED,
    "store": SHARED | {"runs"},
    "runtimes": SHARED,
    "api": SHARED | {"runs", "runtimes", "store", "__init__"},
    "errors": set(),
    "model": set(),
    "host": set(),
    "wire": {"errors", "model"},
    "config": {"errors", "log", "model", "network_hosts"},
    "log": set(),
    **dict.fromkeys(SHARED - {"config", "errors", "host", "log", "model", "wire"}, SHARED),
}
"""The parts of sandboxd that each part may import; a dotted name is one module alone."""

API_MAY_IMPORT: dict[str, set[str]] = {
    "http": set(),
    "telemetry": {"http"},
    "access": {"http", "telemetry"},
    "admission": set(),
    "options": {"access", "http"},
    "processes": {"admission"},
    "sessions": {"access", "admission", "http", "options", "processes", "telemetry"},
    "folders": {"access", "admission", "http", "options", "processes", "sessions", "telemetry"},
    "operation": {"admission", "processes", "sessions", "telemetry"},
    "openapi": {"access", "http"},
    "routes": {
        "access",
        "admission",
        "folders",
        "http",
        "operation",
        "options",
        "processes",
        "sessions",
        "state",
        "telemetry",
    },
}
"""The same within the api; the modules beside its packages join them together."""

PRIVILEGED = {"jail", "files", "runtimes", "selftest", "shim", "warden"} | SHARED


Imports = dict[str, set[str]]


@pytest.fixture(scope="module")
def package() -> Tree:
    """The sources of sandboxd."""
    return Tree(Tree.read(ROOT).below(PACKAGE))


@pytest.fixture(scope="module")
def imports(package: Tree) -> Imports:
    """The imports of each module of sandboxd: at its top, in a function, or for types."""
    imports = defaultdict[str, set[str]](set)
    for edge in edges(package):
        imports[edge.importer].add(edge.imported)
    assert len(imports) > 100
    return imports


def part_of(module: str) -> str:
    """The first name below sandboxd; "__init__" for the package itself."""
    return module.split(".")[1] if "." in module else "__init__"


def test_a_module_imports_only_packages_that_are_below_its_own(imports: Imports) -> None:
    parts = {module: part_of(module) for module in imports if part_of(module) in MAY_IMPORT}
    assert {*parts.values()} >= {"jail", "files", "shim", "warden", "runs", "store", "api"}
    # The places where the root half names the other half: the values with which it starts, and its
    # code in a process that has given root up.
    at_start = {
        ("sandboxd.warden.startup", "api"),
        ("sandboxd.warden.broker.broker_process", "broker"),
    }
    wrong = [
        f"{module} imports {name}"
        for module, part in parts.items()
        for name in imports[module]
        if not {part_of(name), name.removeprefix("sandboxd.")} & (MAY_IMPORT[part] | {part})
        and (module, part_of(name)) not in at_start
    ]
    assert wrong == []


@each_case("part", sorted(PRIVILEGED))
def test_a_module_that_runs_as_root_imports_the_standard_library_only(
    package: Tree, part: str
) -> None:
    sources = [one for one in package.sources if one.path.split("/")[1] in (part, f"{part}.py")]
    assert sources
    for source in sources:
        for node in source.nodes:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            roots = {name.split(".")[0] for name in names}
            assert roots <= sys.stdlib_module_names, f"{source.path} imports {roots}"


@pytest.mark.parametrize(
    "module",
    ["warden.startup", "warden.loop", "warden.runs.launcher", "shim.main", "files.helper",
     "selftest.runner"],
)  # fmt: skip
def test_process_of_root_loads_the_standard_library_only(module: str) -> None:
    program = f"import sys; own = set(sys.modules); import sandboxd.{module}; "
    program += "print(*{name.split('.')[0] for name in set(sys.modules) - own})"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()
    assert "sandboxd" in loaded and {*loaded} <= sys.stdlib_module_names | {"sandboxd"}


def test_modules_that_use_ctypes_are_those_that_the_module_of_system_calls_names(
    package: Tree,
) -> None:
    users = {one.path.removeprefix("sandboxd/") for one in package.sources
             if any(isinstance(node, ast.Import) and node.names[0].name == "ctypes"
                    for node in one.nodes)}  # fmt: skip
    named = set(re.findall(r"[a-z_]+/[a-z_]+\.py", syscalls.__doc__ or ""))
    assert users == named | {"jail/syscalls.py"}


@pytest.mark.parametrize("part", API_MAY_IMPORT)
def test_a_package_of_the_api_imports_only_packages_that_are_below_it(
    imports: Imports, part: str
) -> None:
    for module in [name for name in imports if name.startswith(f"sandboxd.api.{part}.")]:
        for name in imports[module]:
            if name.startswith("sandboxd.api."):
                other = name.split(".")[2]
                assert other in API_MAY_IMPORT[part] | {part}, f"{module} imports {name}"


def test_every_package_of_the_api_has_its_place_in_the_order() -> None:
    packages = (ROOT / PACKAGE / "api").glob("*/__init__.py")
    assert {path.parent.name for path in packages} == {*API_MAY_IMPORT}


def test_no_daemon_uses_select_which_knows_no_descriptor_above_1023(package: Tree) -> None:
    users = [
        source.path
        for source in package.sources
        for node in source.nodes
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "select.select"
    ]
    assert users == ["sandboxd/cli/shell.py"], "a command has few descriptors"


def test_no_modules_import_each_other_in_a_circle(package: Tree) -> None:
    assert [*map(str, (*module_circles(package), *typing_circles(package)))] == []
