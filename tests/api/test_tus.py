"""tus: every offset against every state, and headers that are no numbers."""

from __future__ import annotations

import itertools

import pytest

from sandboxd.api.folders import tus
from sandboxd.api.folders.tus import TusError

from ..each_case import each_case

PATCH = {"tus-resumable": "1.0.0", "content-type": tus.OCTETS}
SIZES = (0, 1, 2, 3, 16 << 20, 1 << 40)


def outcome(size: int, offset: int, length: int) -> int | TusError:
    headers = PATCH | {"upload-offset": str(offset), "content-length": str(length)}
    return tus.patch(headers, size)


def status(answer: int | TusError) -> int | None:
    """The status of a refusal."""
    return answer.status if isinstance(answer, TusError) else None


def test_patch_is_taken_only_within_the_upload() -> None:
    for case in itertools.product(range(4), range(6), range(6)):
        size, offset, length = case
        answer = outcome(*case)
        if offset > size:
            assert status(answer) == 409, case
        elif offset + length > size:
            assert status(answer) == 413, case
        else:
            assert answer == offset, case


def test_data_for_any_other_offset_is_a_conflict() -> None:
    for start, have in itertools.product(range(6), repeat=2):
        wrong = tus.conflict(start, have)
        assert (wrong and wrong.status) == (None if start == have else 409), (start, have)


def test_offset_near_either_end_of_an_upload_is_accepted_or_refused() -> None:
    for size in SIZES:
        assert status(outcome(size, size + 1, 0)) == 409, size
        assert outcome(size, size, 0) == size
        answer = outcome(size, size - 1, 0)
        assert answer == size - 1 if size else status(answer) == 400, size


@each_case(
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
    assert tus.response_headers(3, 10) == {
        "tus-resumable": "1.0.0",
        "upload-offset": "3",
        "upload-length": "10",
        "cache-control": "no-store",
    }
