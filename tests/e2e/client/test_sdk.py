"""The clients' SDKs: each flow of flows.py and streams.py is a test, which driver.py runs; and each
of flows.js, for the npm client."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from pathlib import Path

import pytest

from ..daemon import Daemon
from .conftest import Client, client_of, installed

HERE = Path(__file__).parent


def names() -> list[str]:
    """The flows, which cannot be imported here: the client is not in this environment."""
    parsed = [ast.parse((HERE / name).read_text()).body for name in ("flows.py", "streams.py")]
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    functions = [node.name for body in parsed for node in body if isinstance(node, kinds)]
    return [name for name in functions if name.startswith("flow_")]


Outcomes = dict[str, str | None]


def outcomes_of(command: list[str], client: Client, folder: Path) -> Outcomes:
    """The outcome of each flow. A driver writes the outcomes to the file of its last argument."""
    out = folder / "outcomes.json"
    done = subprocess.run(
        [*command, str(out)], cwd=client.folder, env=client.environ,
        capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    outcomes: Outcomes = json.loads(out.read_text())
    return outcomes


@pytest.fixture(scope="module")
def outcomes(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    command = [client.python, str(HERE / "driver.py")]
    return outcomes_of(command, client, tmp_path_factory.mktemp("flows"))


@pytest.mark.parametrize("name", names())
def test_flow_of_the_python_client_succeeds(outcomes: Outcomes, name: str) -> None:
    assert outcomes[name] is None, outcomes[name]


NPM_FLOWS = re.findall(r"^async function (flow_\w+)", (HERE / "flows.js").read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def npm_outcomes(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    packages, folder = installed("npm", "node with npm"), tmp_path_factory.mktemp("npm")
    user = client_of("node", daemon, folder)
    return outcomes_of(["node", str(HERE / "flows.js"), packages], user, folder)


@pytest.mark.parametrize("name", NPM_FLOWS)
def test_flow_of_the_npm_client_succeeds(npm_outcomes: Outcomes, name: str) -> None:
    assert npm_outcomes[name] is None, npm_outcomes[name]
