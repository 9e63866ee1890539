"""The rows of `sandboxd doctor` on the network profiles. The broker starts only if it can read the
secrets of all profiles."""

from __future__ import annotations

from collections.abc import Iterator

from ..config.network_profiles import ProfileConfig
from ..config.settings import Config
from ..errors import StageError
from ..model import Guarantee
from ..warden.broker.broker_process import secret_value

_GROUP = "network"


def rows(config: Config) -> Iterator[Guarantee]:
    """A row for each profile."""
    for name, profile in config.network.profiles.items():
        yield _row(name, profile)


def _row(name: str, profile: ProfileConfig) -> Guarantee:
    detail, remedy = f"{len(profile.hosts)} hosts, {len(profile.secrets)} secrets", ""
    for id, secret in profile.secrets.items():
        try:
            secret_value(secret)
        except StageError as error:
            detail = f"secret {id}: {error.message}; without it no profile has a broker"
            remedy = "put one line into the file: root's, mode 0600"
    return Guarantee(_GROUP, name, "", not remedy, False, detail, remedy)
