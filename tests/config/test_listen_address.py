"""The addresses of `listen`: what each says, and the words for what is none."""

from __future__ import annotations

import pytest

from sandboxd.config.listen_address import ListenAddress, keyed_paths, parse
from sandboxd.errors import ConfigError

from ..each_case import each_case


@each_case(
    ("text", "address", "bare"),
    [
        ("unix:/run/s", ListenAddress("/run/s"), "unix:/run/s"),
        ("unix:/run/s?auth=keypair", ListenAddress("/run/s", keyed=True), "unix:/run/s"),
        ("unix:/run/s?group=ci", ListenAddress("/run/s", group="ci"), "unix:/run/s"),
        (
            "unix:/run/s?group=ci&auth=keypair",
            ListenAddress("/run/s", keyed=True, group="ci"),
            "unix:/run/s",
        ),
        ("127.0.0.1:80", ListenAddress(host="127.0.0.1", port=80), "127.0.0.1:80"),
        ("[::1]:80", ListenAddress(host="::1", port=80), "[::1]:80"),
    ],
)
def test_address_has_its_parts(text: str, address: ListenAddress, bare: str) -> None:
    assert parse(text) == address
    assert address.bare == bare


@each_case(
    ("text", "reason"),
    [
        ("unix:relative", "an absolute path"), ("unix:", "an absolute path"),
        (f"unix:/{'x' * 107}", "at most 107 bytes"),
        ("unix:/s?", "'' is no option"), ("unix:/s?auth=none", "'auth=none' is no option"),
        ("unix:/s?group=", "'group=' is no option"), ("unix:/s?mode=0666", "is no option"),
        ("unix:/s?auth=keypair&", "'' is no option"),
        ("nonsense", "HOST:PORT"), ("127.0.0.1:99999", "from 0 to 65535"), (":80", "HOST:PORT"),
        ("127.0.0.1:80?auth=none", "HOST:PORT"),
    ],
)  # fmt: skip
def test_text_that_is_no_address_is_refused_with_the_key(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match="listen: ") as refusal:
        parse(text)
    assert reason in str(refusal.value)


def test_paths_with_keys_are_those_of_the_option_alone() -> None:
    listen = ["unix:/a", "unix:/b?auth=keypair", "unix:/c?group=g", "127.0.0.1:1"]
    assert keyed_paths(listen) == {"/b"}
