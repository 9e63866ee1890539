"""Import circles of modules, packages and sub-packages, with imports for types apart."""

from __future__ import annotations

from scripts.measures import imports
from scripts.measures.tree import Tree

from .sample import texts


def test_a_circle_of_modules_counts_also_within_functions() -> None:
    bad = {
        "sandboxd/__init__.py": "",
        "sandboxd/p/__init__.py": "",
        "sandboxd/p/a.py": "from . import b",
        "sandboxd/p/b.py": "def f():\n    from ..c import name",
        "sandboxd/c.py": "import sandboxd.p.a\nfrom sandboxd.p import nothing",
    }
    assert sorted(texts(imports.module_circles, Tree.of(bad))) == [
        "sandboxd.c -> sandboxd.p.a -> sandboxd.p.b -> sandboxd.c",
        "sandboxd.p.a -> sandboxd.p.b -> sandboxd.c -> sandboxd.p.a",
        "sandboxd.p.b -> sandboxd.c -> sandboxd.p.a -> sandboxd.p.b",
    ]
    assert texts(imports.module_circles, Tree.of({**bad, "sandboxd/p/b.py": "import os"})) == []


def test_a_package_that_is_only_passed_through_is_no_circle() -> None:
    good = {
        "sandboxd/p/__init__.py": "from .a import name",
        "sandboxd/p/a.py": "from .b import name\nfrom . import b",
        "sandboxd/p/b.py": "",
    }
    assert texts(imports.module_circles, Tree.of(good)) == []
    bad = {**good, "sandboxd/p/b.py": "from . import name"}
    assert "sandboxd.p.b -> sandboxd.p -> sandboxd.p.a -> sandboxd.p.b" in texts(
        imports.module_circles, Tree.of(bad)
    )


def test_an_import_for_types_is_counted_apart() -> None:
    circle = {
        "sandboxd/a.py": "if TYPE_CHECKING:\n    from .b import B",
        "sandboxd/b.py": "from .a import A",
    }
    assert texts(imports.module_circles, Tree.of(circle)) == []
    assert texts(imports.typing_imports, Tree.of(circle)) == ["imports sandboxd.b"]
    circles = ["sandboxd.a -> sandboxd.b -> sandboxd.a"]
    assert texts(imports.typing_circles, Tree.of(circle)) == circles


def test_a_circle_of_packages_counts_though_no_modules_are_in_one() -> None:
    bad = {
        "sandboxd/api/__init__.py": "",
        "sandboxd/api/app.py": "from .routes import run\nfrom ..store import rows",
        "sandboxd/api/state.py": "",
        "sandboxd/api/routes/__init__.py": "",
        "sandboxd/api/routes/run.py": "from ..state import State\nfrom ..http import reply",
        "sandboxd/api/http/__init__.py": "",
        "sandboxd/api/http/reply.py": "",
        "sandboxd/api/http/errors.py": "from ..routes import names",
        "sandboxd/api/routes/names.py": "",
        "sandboxd/store/__init__.py": "",
        "sandboxd/store/rows.py": "",
    }
    assert texts(imports.module_circles, Tree.of(bad)) == []
    assert texts(imports.package_circles, Tree.of(bad)) == []
    assert sorted(texts(imports.subpackage_circles, Tree.of(bad))) == [
        "sandboxd.api.http -> sandboxd.api.routes -> sandboxd.api.http",
        "sandboxd.api.routes -> sandboxd.api.http -> sandboxd.api.routes",
    ]
    worse = Tree.of({**bad, "sandboxd/store/rows.py": "from ..api.app import routes"})
    assert len(texts(imports.package_circles, worse)) == 2
