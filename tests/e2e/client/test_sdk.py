"""The client's SDK: each flow of flows.py and streams.py is a test; driver.py runs them all."""

from __future__ import annotations

import ast
import json
import subprocess
from pathlib import Path

import pytest

from .conftest import Client

HERE = Path(__file__).parent


def names() -> list[str]:
    """The flows, which cannot be imported here: the client is not in this environment."""
    parsed = [ast.parse((HERE / name).read_text()).body for name in ("flows.py", "streams.py")]
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    functions = [node.name for body in parsed for node in body if isinstance(node, kinds)]
    return [name for name in functions if name.startswith("flow_")]


@pytest.fixture(scope="module")
def outcomes(client: Client, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    out = tmp_path_factory.mktemp("flows") / "outcomes.json"
    command = [client.python, str(HERE / "driver.py"), str(out)]
    done = subprocess.run(
        command, cwd=client.folder, env=client.environ, capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str | None] = json.loads(out.read_text())
    return found


@pytest.mark.parametrize("name", names())
def test_flow(outcomes: dict[str, str | None], name: str) -> None:
    assert outcomes[name] is None, outcomes[name]
