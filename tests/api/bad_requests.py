"""Requests that nobody should send, and what every answer to them must be."""

from __future__ import annotations

import httpx

MALFORMED = {
    "empty": b"",
    "garbage": b"{not json",
    "truncated": b'{"mode":"batch",',
    "list": b"[]",
    "null": b"null",
    "number": b"7",
    "string": b'"x"',
    "deep": b"[" * 100_000,
    "deep object": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    "invalid UTF-8": b'{"mode":"\xff\xfe"}',
    "UTF-16": '{"mode":"batch"}'.encode("utf-16"),
    "UTF-8 with a byte order mark": b'\xef\xbb\xbf{"mode":"batch"}',
    "NaN": b'{"mode":NaN}',
    "infinity": b'{"options":{"timeout":-Infinity}}',
    "huge number": b'{"mode":' + b"9" * 6000 + b"}",
    "trailing": b'{"mode":"batch"} x',
    "NUL": b"\0\0",
    "form": b"mode=batch",
}


def assert_problem(answer: httpx.Response, status: int | None = None, suffix: str = "") -> None:
    """A problem document with a 4xx status, or the `status` that is named, without internals."""
    assert 400 <= answer.status_code < 500 or answer.status_code == status != 500, (
        answer.status_code,
        answer.text,
    )
    assert status is None or answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["server"] == "BackendAI"
    body = answer.json()
    assert body["title"] and body["type"].startswith("https://api.backend.ai/probs/")
    assert body["type"].endswith(suffix)
    for inside in ("Traceback", 'File "', "site-packages", "sandboxd/"):
        assert inside not in answer.text
