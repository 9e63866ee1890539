"""The pages about the API name every request, refusal, limit and fact of a verdict."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from sandboxd.api.http import problems
from sandboxd.api.options.limit_values import RESOURCE_OPTS, RUN_LIMITS
from sandboxd.api.routes.table import ROUTES
from sandboxd.api.routes.transfers import DOWNLOAD, UPLOAD
from sandboxd.model import Usage, Verdict

ROOT = Path(__file__).resolve().parent.parent
API = (ROOT / "docs/api.md").read_text()
PAGES = "".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))


def section(title: str) -> str:
    return re.split(r"\n#+ ", API.split(f"# {title}\n", 1)[1])[0]


def test_every_path_of_a_request_is_in_the_pages() -> None:
    paths = {route.path for route in ROUTES} - {UPLOAD, DOWNLOAD}  # clients get these as `url`
    named = {path.replace("{ref}", "REF").replace("{name}", "NAME") for path in paths}
    assert [path for path in sorted(named) if not re.search(rf"{path}(?![\w/-])", PAGES)] == []


def test_every_type_of_a_problem_is_in_the_table_of_refusals() -> None:
    types = {suffix for status in range(400, 600) for suffix in suffixes(status)}
    assert len(types) > 15
    assert [name for name in sorted(types) if name not in section("Responses and errors")] == []


def suffixes(status: int) -> set[str]:
    """The types of the problem documents with this status."""
    return set(re.findall(r"`([a-z-]+)`", " ".join(problems.titles(status))))


def test_every_limit_of_a_request_is_in_the_table_of_limits() -> None:
    limits = section("Limits")
    assert [name for name in {**RUN_LIMITS, **RESOURCE_OPTS} if f"`{name}`" not in limits] == []


def test_every_field_of_a_verdict_is_in_its_table() -> None:
    names = [field.name for kind in (Verdict, Usage) for field in dataclasses.fields(kind)]
    assert [name for name in names if f"`{name}`" not in section("Verdicts")] == []
