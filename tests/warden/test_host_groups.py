"""The groups of the configuration are gids before the api gets them."""

from __future__ import annotations

import grp

import pytest

from sandboxd.config import toml_file
from sandboxd.errors import ConfigError
from sandboxd.warden.host_groups import gid_of, with_gids

from ..each_case import each_case

GROUP = grp.getgrnam("daemon")


def test_names_and_numbers_are_gids() -> None:
    config = toml_file.load(None, admin_groups=[GROUP.gr_name, "4200000"])
    assert with_gids(config).admin_groups == (str(GROUP.gr_gid), "4200000")


@each_case("name", ["no-such-group", "", "-1", "4294967295", "٣", "a\0b"])
def test_group_that_this_host_does_not_have_is_refused_with_the_key(name: str) -> None:
    with pytest.raises(ConfigError, match="admin_groups: this host has no group"):
        gid_of(name, "admin_groups")
