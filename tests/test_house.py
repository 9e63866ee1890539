"""The house as `scripts/house` measures it: the tree is within every bound.

The measures by themselves are tested in tests/measures.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.measures import names
from scripts.measures.bounds import MEASURES
from scripts.measures.measure import Measure, largest, percentile, total
from scripts.measures.tree import Place, Tree

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def tree() -> Tree:
    return Tree.read(ROOT)


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.name)
def test_the_tree_is_within_the_bound(tree: Tree, measure: Measure) -> None:
    result = measure.take(tree)
    places = "\n".join(str(place) for place in result.places[:40])
    assert not result.over, f"{measure.name} {result.value} > {measure.bound}\n{places}"


def test_no_goal_is_worse_than_its_bound() -> None:
    for measure in MEASURES:
        assert measure.goal is None or measure.bound is not None
        assert measure.goal is None or measure.bound is None or measure.goal <= measure.bound
    assert len({measure.name for measure in MEASURES}) == len(MEASURES)


def test_summary_of_places_is_the_largest_the_total_or_a_percentile() -> None:
    places = [Place("a", 1, "", size) for size in (1, 2, 3, 4, 50)]
    assert (largest(places), total(places)) == (50, 60)
    assert (percentile(50)(places), percentile(90)(places), percentile(90)([])) == (3, 50, 0)


def test_a_value_above_the_bound_is_over_and_one_at_the_bound_is_not() -> None:
    tree = Tree.of({"sandboxd/a.py": "told = 1\nkept = 2"})
    statuses = [Measure("x", "", names.banned, bound).take(tree).status for bound in (1, 2, None)]
    assert statuses == ["over", "ok", "-"]


def house(*arguments: str, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [str(root / "scripts" / "house"), *arguments]
    environ = {**os.environ, "PYTHON": sys.executable}
    return subprocess.run(command, env=environ, capture_output=True, text=True)


def test_command_prints_a_table_json_and_places_and_fails_when_a_bound_is_broken(
    tmp_path: Path,
) -> None:
    small = tmp_path / "house"
    for path in [*(ROOT / "scripts").rglob("*.py"), ROOT / "scripts" / "house"]:
        copy = small / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
        copy.chmod(0o755)
    well = house(root=small)
    assert (well.returncode, well.stderr) == (0, "")
    assert re.search(r"^annotations +0 +0 +0  ok", well.stdout, re.MULTILINE)

    bad = small / "sandboxd" / "bad.py"
    bad.parent.mkdir()
    bad.write_text('"""The bad."""\n\n\ndef _f(x):\n    return x\n')
    ill = house("--json", root=small)
    rows = {row["name"]: row for row in json.loads(ill.stdout)}
    assert ill.returncode == 1
    assert (rows["annotations"]["value"], rows["annotations"]["status"]) == (2, "over")

    places = house("--list", "annotations", root=small)
    assert places.returncode == 1
    assert places.stdout == "sandboxd/bad.py:4 _f: x\nsandboxd/bad.py:4 _f: return\n"
    assert house("--list", "docstrings", root=small).returncode == 0
    assert house("--list", "nothing", root=small).returncode == 2
