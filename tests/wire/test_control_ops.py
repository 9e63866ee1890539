"""The table of the messages to a shim, beside its receiver."""

from __future__ import annotations

import pytest

from sandboxd.shim import control_requests
from sandboxd.wire.control_ops import CONTROL_OPS, SIGNAL, WATCH


def test_shim_carries_out_each_message_of_the_table_and_no_other() -> None:
    plain = {op.name for op in CONTROL_OPS if not op.has_socket} - {WATCH.name}
    assert {*control_requests.PLAIN} == plain
    assert {*control_requests.WITH_SOCKET} == {op.name for op in CONTROL_OPS if op.has_socket}


def test_names_of_the_table_are_different() -> None:
    assert len({op.name for op in CONTROL_OPS}) == len(CONTROL_OPS)


def test_message_has_exactly_the_fields_of_the_table() -> None:
    expected = {"op": "signal", "name": "SIGINT", "by": "client"}
    assert SIGNAL.message(name="SIGINT", by="client") == expected
    for fields in ({"name": "SIGINT"}, {"name": "SIGINT", "by": "client", "more": 1}):
        with pytest.raises(TypeError, match="signal has the fields"):
            SIGNAL.message(**fields)
