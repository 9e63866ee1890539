"""Bytecode of Python modules that an upload replaces."""

from __future__ import annotations

import pytest

from sandboxd.files import bytecode

from .scratch import Scratch

CACHED = {
    "util.py": b"x = 1\n",
    "__pycache__": b"special",
    "__pycache__/util.cpython-311.pyc": b"",
    "__pycache__/util.cpython-311.opt-1.pyc": b"",
    "__pycache__/utility.cpython-311.pyc": b"",
}


def cached(scratch: Scratch) -> None:
    scratch.upload([(name, data) for name, data in CACHED.items() if data != b"special"])


def test_bytecode_of_an_uploaded_module_is_removed(scratch: Scratch) -> None:
    cached(scratch)
    assert scratch.upload([("util.py", b"x = 2\n")]) is None
    assert sorted(scratch.tree()) == [
        "__pycache__", "__pycache__/utility.cpython-311.pyc", "util.py",
    ]  # fmt: skip


def test_bytecode_of_an_uploaded_module_is_there_unless_it_is_removed(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bytecode, "remove_stale", lambda home, names: None)
    cached(scratch)
    assert scratch.upload([("util.py", b"x = 2\n")]) is None
    assert "__pycache__/util.cpython-311.pyc" in scratch.tree()
