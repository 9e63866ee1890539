"""The network of a session: requested by name, described, refused with the reason."""

from __future__ import annotations

from typing import Any

import pytest

from sandboxd.api.sessions import session_network
from sandboxd.api.sessions.session_network import described, granted
from sandboxd.api.telemetry.metrics import network_readings
from sandboxd.config.network_profiles import HOSTS_MAX, NetworkConfig, ProfileConfig
from sandboxd.errors import Forbidden, Invalid
from sandboxd.model import NetworkGrant

from ..each_case import each_case

HOSTS = ("index.example:443", "*.files.example:443")
CONFIG = NetworkConfig({
    "packages": ProfileConfig(HOSTS),
    "ci": ProfileConfig(HOSTS, owners=("AKIA",)),
})  # fmt: skip


def test_session_without_a_request_has_no_network() -> None:
    assert granted("", "AKIA", CONFIG) is None
    assert granted({}, "AKIA", CONFIG) is None
    assert described(None, CONFIG) is None


def test_list_of_very_many_hosts_is_refused_before_any_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def parsed(_: str) -> None:
        raise AssertionError("a host was looked at")

    monkeypatch.setattr(session_network, "parse_pattern", parsed)
    with pytest.raises(Invalid) as caught:
        granted({"profile": "packages", "hosts": ["index.example:443"] * 90_000}, "AKIA", CONFIG)
    assert f"{HOSTS_MAX} hosts at most" in str(caught.value.data)


def test_name_of_a_profile_gives_all_of_its_hosts() -> None:
    grant = granted("packages", "AKIB", CONFIG)
    assert grant == NetworkGrant("AKIB", "packages")
    assert described(grant, CONFIG) == {"profile": "packages", "hosts": list(HOSTS)}


def test_narrower_list_gives_those_hosts_alone_in_their_one_form() -> None:
    wanted = {"profile": "packages", "hosts": ["A.Files.Example.:443"]}
    grant = granted(wanted, "AKIB", CONFIG)
    assert described(grant, CONFIG) == {"profile": "packages", "hosts": ["a.files.example:443"]}


@each_case(
    ("value", "reason"),
    [
        ("other", "no network profile 'other'"),
        ({"profile": "packages"}, "profile and hosts"),
        ({"profile": 3, "hosts": []}, "profile and hosts"),
        ({"profile": "packages", "hosts": []}, "a list of texts"),
        ({"profile": "packages", "hosts": [443]}, "a list of texts"),
        ({"profile": "packages", "hosts": ["evil.test:443"]}, "is not in the network profile"),
        ({"profile": "packages", "hosts": ["index.example:80"]}, "is not in the network profile"),
        ({"profile": "packages", "hosts": ["index.example"]}, "has no port"),
        ({"profile": "packages", "hosts": HOSTS, "ports": 1}, "profile and hosts"),
    ],
)
def test_network_that_the_server_does_not_offer_is_refused_by_name(value: Any, reason: str) -> None:
    with pytest.raises(Invalid) as refused:
        granted(value, "AKIB", CONFIG)
    assert reason in str(refused.value.data)


def test_profile_of_other_owners_is_forbidden() -> None:
    assert granted("ci", "AKIA", CONFIG)
    with pytest.raises(Forbidden, match="not for this owner"):
        granted("ci", "AKIB", CONFIG)


def test_profile_that_a_reload_has_taken_away_leaves_no_host() -> None:
    grant = NetworkGrant("AKIA", "packages")
    assert described(grant, NetworkConfig()) == {"profile": "packages", "hosts": []}


def test_counts_of_the_broker_become_metrics() -> None:
    counts = {"open": 2, "outcomes.ok": 5, "outcomes.tls-name": 1, "bytes.sent": 7}
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for metric in network_readings(counts)
        for sample in metric.samples
    }
    assert samples == {
        ("sandboxd_network_open_connections",): 2,
        ("sandboxd_network_connections_total", "ok"): 5,
        ("sandboxd_network_connections_total", "tls-name"): 1,
        ("sandboxd_network_bytes_total", "sent"): 7,
    }
    assert list(network_readings({})) == list(network_readings(None)) == []
