"""tus: every offset against every state, and headers that are no numbers."""

from __future__ import annotations

import itertools

import pytest

from sandboxd.api.folders import tus
from sandboxd.api.folders.tus import TusError

PATCH = {"tus-resumable": "1.0.0", "content-type": tus.OCTETS}
SIZES = (0, 1, 2, 3, 16 << 20, 1 << 40)


@pytest.mark.parametrize(
    ("size", "offset", "length"),
    [(s, o, n) for s in range(4) for o in range(6) for n in range(6)],
)
def test_patch_is_taken_only_within_the_upload(size: int, offset: int, length: int) -> None:
    headers = PATCH | {"upload-offset": str(offset), "content-length": str(length)}
    answer = tus.patch(headers, size)
    if offset > size:
        assert isinstance(answer, TusError) and answer.status == 409
    elif offset + length > size:
        assert isinstance(answer, TusError) and answer.status == 413
    else:
        assert answer == offset


@pytest.mark.parametrize(("start", "have"), list(itertools.product(range(6), repeat=2)))
def test_data_for_any_other_offset_is_a_conflict(start: int, have: int) -> None:
    wrong = tus.conflict(start, have)
    assert (wrong is None) == (start == have)
    assert wrong is None or wrong.status == 409


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("delta", [-1, 0, 1])
def test_offset_near_either_end_of_an_upload_is_accepted_or_refused(size: int, delta: int) -> None:
    offset = size + delta
    answer = tus.patch(PATCH | {"upload-offset": str(offset), "content-length": "0"}, size)
    if offset < 0:
        assert isinstance(answer, TusError) and answer.status == 400
    elif offset > size:
        assert isinstance(answer, TusError) and answer.status == 409
    else:
        assert answer == offset


@pytest.mark.parametrize(
    "offset",
    ["", "-1", "+1", "1.0", "0x1", "1e3", " 1", "1 ", "a", "1,1", "9" * 19, "٣", "1\n", "None"],
)
def test_offset_that_is_no_number_is_400(offset: str) -> None:
    answer = tus.patch(PATCH | {"upload-offset": offset}, 10)
    assert isinstance(answer, TusError) and answer.status == 400


def test_offset_that_is_absent_is_400() -> None:
    answer = tus.patch(PATCH, 10)
    assert isinstance(answer, TusError) and answer.status == 400


@pytest.mark.parametrize("length", ["", "x", "-5"])
def test_patch_without_a_content_length_is_accepted(length: str) -> None:
    assert tus.patch(PATCH | {"upload-offset": "3", "content-length": length}, 10) == 3


@pytest.mark.parametrize("kind", ["", "text/plain", "application/octet-stream", "multipart/x"])
def test_other_content_types_are_415(kind: str) -> None:
    headers = PATCH | {"upload-offset": "0", "content-type": kind}
    answer = tus.patch(headers, 10)
    assert isinstance(answer, TusError) and answer.status == 415


def test_content_type_may_have_parameters_and_capitals() -> None:
    headers = PATCH | {"upload-offset": "0", "content-type": "Application/Offset+Octet-Stream; a=b"}
    assert tus.patch(headers, 10) == 0


@pytest.mark.parametrize(("version", "good"), [("1.0.0", True), ("0.2.2", False), ("", False)])
def test_other_versions_are_412(version: str, good: bool) -> None:
    headers = PATCH | {"upload-offset": "0", "tus-resumable": version}
    answer = tus.patch(headers, 10)
    assert (answer == 0) if good else (isinstance(answer, TusError) and answer.status == 412)
    assert (tus.version({"tus-resumable": version}) is None) == good


def test_request_without_a_tus_version_is_accepted() -> None:
    assert tus.version({}) is None


def test_response_has_offset_and_length_and_is_not_cached() -> None:
    assert tus.answer(3, 10) == {
        "tus-resumable": "1.0.0",
        "upload-offset": "3",
        "upload-length": "10",
        "cache-control": "no-store",
    }
