"""The profiles of the network in the configuration: each mistake is one line with the key."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from sandboxd.config.network_profiles import HOSTS_MAX, NetworkConfig
from sandboxd.config.settings import Config
from sandboxd.config.toml_file import from_table, load
from sandboxd.errors import ConfigError
from sandboxd.model import NetworkGrant

PROFILE = """
[network.profiles.packages]
hosts = ["index.example:443", "*.files.example:443"]
owners = ["AKIA"]
connections = 8
[network.profiles.packages.owner]
rate = 1000
[network.profiles.packages.secrets.token]
host = "index.example:443"
path = "/simple/"
header = "Authorization"
file = "/etc/sandboxd/token"
"""


def read(folder: Path, text: str) -> NetworkConfig:
    path = folder / "config.toml"
    path.write_text(text)
    return load(str(path)).network


def test_owners_of_a_profile_are_keys_and_users(tmp_path: Path) -> None:
    owners = '["AKIA", "uid:0", "uid:4294967295", "ci_key-2"]'
    network = read(tmp_path, PROFILE.replace('["AKIA"]', owners))
    assert len(network.profiles["packages"].owners) == 4


def test_no_profile_is_the_default() -> None:
    assert Config().network == NetworkConfig({})


def test_profile_is_read_and_survives_json(tmp_path: Path) -> None:
    network = read(tmp_path, PROFILE)
    profile = network.profiles["packages"]
    assert (profile.connections, profile.owner.rate) == (8, 1000)
    assert list(map(str, profile.patterns)) == ["index.example:443", "*.files.example:443"]
    assert from_table({"network": asdict(network)}).network == network


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ('hosts = ["index.example:443", "*.files.example:443"]\n', "", "hosts"),
        ('"index.example:443"', '"index.example"', "packages.hosts: 'index.example' has no port"),
        ('"index.example:443"', '"0x7f.1:443"', "packages.hosts: '0x7f.1' is no host"),
        ('"index.example:443"', '"https://index.example:443"', "packages.hosts: "),
        ('"*.files.example:443"', '"*:443"', "packages.hosts: "),
        ('["index.example:443", "*.files.example:443"]', "[]", "hosts: 1 to 256 hosts"),
        *(
            ('"AKIA"', f'"AKIA", "{owner}"', f"packages.owners: '{owner}' is no owner")
            for owner in ("bad owner", "", "uid:", "uid:07", "uid:x", "AKIA:1", "*")
        ),
        ("connections = 8", "connections = 0", "packages.connections: a number above 0"),
        ("connections = 8", "ports = 8", "unknown key network.profiles.packages.ports"),
        ("rate = 1000", "rate = -1", "packages.owner.rate: a number above 0"),
        ("[network.profiles.packages]", "[network.profiles.Packages]", "a name has 1 to 32"),
        ('host = "index.example:443"', 'host = "other.example:443"', "secrets.token.host: "),
        ('host = "index.example:443"', 'host = "*.files.example:443"', "secrets.token.host: "),
        ('path = "/simple/"', 'path = "/simple"', "secrets.token.path: "),
        ('path = "/simple/"', 'path = "/a/../"', "secrets.token.path: "),
        ('path = "/simple/"', 'path = "/a%2fb/"', "secrets.token.path: "),
        ('header = "Authorization"', 'header = "Host"', "secrets.token.header: "),
        ('header = "Authorization"', 'header = "A: b"', "secrets.token.header: "),
        ('file = "/etc/sandboxd/token"', 'file = "token"', "secrets.token.file: an absolute path"),
    ],
)
def test_mistake_in_a_profile_is_one_line_with_its_key(
    tmp_path: Path, old: str, new: str, line: str
) -> None:
    assert old in PROFILE
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, PROFILE.replace(old, new, 1))
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("grant", "refusal"),
    [
        (NetworkGrant("AKIA", "packages"), ""),
        (NetworkGrant("AKIA", "packages", ("a.files.example:443",)), ""),
        (NetworkGrant("AKIA", "packages", ("*.files.example:443",)), ""),
        (NetworkGrant("AKIB", "packages"), "is not for this owner"),
        (NetworkGrant("AKIA", "other"), "no network profile 'other'"),
        (NetworkGrant("AKIA", "packages", ("files.example:443",)), "is not in the network profile"),
        (NetworkGrant("AKIA", "packages", ("index.example:80",)), "is not in the network profile"),
        (NetworkGrant("AKIA", "packages", ("index.example",)), "has no port"),
        (NetworkGrant("AKIA", "packages", ("index.example:443",) * (HOSTS_MAX + 1)), "at most"),
    ],
)
def test_session_gets_a_profile_or_less(tmp_path: Path, grant: NetworkGrant, refusal: str) -> None:
    reason = read(tmp_path, PROFILE).refusal(grant)
    assert refusal in reason
    assert bool(reason) is bool(refusal)
