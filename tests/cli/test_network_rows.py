"""The rows of doctor on network profiles name a secret that the broker could not read."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandboxd.cli import network_rows
from sandboxd.config import toml_file
from sandboxd.model import Guarantee

pytestmark = pytest.mark.root


def row(folder: Path) -> Guarantee:
    """The row of a profile whose secret is the file `token` in `folder`."""
    (folder / "config.toml").write_text(f"""
[network.profiles.packages]
hosts = ["index.example:443"]
[network.profiles.packages.secrets.token]
host = "index.example:443"
path = "/simple/"
header = "Authorization"
file = "{folder}/token"
""")
    (one,) = network_rows.rows(toml_file.load(str(folder / "config.toml")))
    return one


def test_profile_whose_secret_is_roots_alone_holds(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("Bearer x\n")
    (tmp_path / "token").chmod(0o600)
    assert row(tmp_path).held and row(tmp_path).detail == "1 hosts, 1 secrets"
    assert "Bearer" not in str(row(tmp_path))


def test_profile_whose_secret_cannot_be_read_has_a_remedy(tmp_path: Path) -> None:
    absent = row(tmp_path)
    assert not absent.held and "No such file" in absent.detail and "0600" in absent.remedy
    (tmp_path / "token").write_text("Bearer x\n")
    (tmp_path / "token").chmod(0o644)
    assert not row(tmp_path).held and "mode 0600" in row(tmp_path).detail


def test_configuration_without_profiles_has_no_row() -> None:
    assert list(network_rows.rows(toml_file.load(None))) == []
