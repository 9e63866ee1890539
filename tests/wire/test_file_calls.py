"""The packets between the api and a file helper."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies as st

from sandboxd.errors import Invalid, NotFound, OutsideHome, QuotaExceeded, Unavailable
from sandboxd.wire.file_calls import (
    FILE_CHUNK,
    PACKET_MAX,
    FileWireError,
    pack_data,
    pack_json,
    refusal,
    unpack,
)

from ..each_case import each_case

NAMES = st.binary(max_size=50).map(lambda data: data.decode("utf-8", "surrogateescape"))


@hypothesis.given(NAMES)
def test_any_file_name_survives_the_round_trip(name: str) -> None:
    assert unpack(pack_json({"file": name})) == {"file": name}


@hypothesis.given(st.binary(min_size=1, max_size=100))
def test_data_survives_the_round_trip(data: bytes) -> None:
    assert unpack(pack_data(data)) == data


@pytest.mark.parametrize("size", [0, FILE_CHUNK + 1])
def test_data_of_a_wrong_size_is_not_packed(size: int) -> None:
    with pytest.raises(FileWireError):
        pack_data(bytes(size))


def test_too_many_names_are_the_clients_fault() -> None:
    with pytest.raises(Invalid):
        pack_json({"paths": ["x" * PACKET_MAX]})


@each_case(
    "packet",
    [
        b"", b"D", b"D" + bytes(FILE_CHUNK + 1), b"J", b"J[]", b"J1", b"J{", b"X{}", b"j{}",
        b"J\xff", b"J" + b"[" * 100_000, b"J" + b" " * PACKET_MAX + b"{}",
    ],
)  # fmt: skip
def test_what_is_no_packet_is_refused(packet: bytes) -> None:
    with pytest.raises(FileWireError):
        unpack(packet)


@hypothesis.given(st.binary(max_size=200))
def test_random_packets_are_unpacked_or_refused(packet: bytes) -> None:
    try:
        assert isinstance(unpack(packet), dict | bytes)
    except FileWireError:
        pass


@each_case(
    ("kind", "error"),
    [
        ("outside", OutsideHome), ("invalid", Invalid), ("missing", NotFound),
        ("full", QuotaExceeded), ("fault", Unavailable), (None, Unavailable), (7, Unavailable),
    ],
)  # fmt: skip
def test_each_kind_of_refusal_is_an_exception(kind: object, error: type[Exception]) -> None:
    assert type(refusal({"ok": False, "kind": kind, "error": "why"})) is error
