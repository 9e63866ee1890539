"""Clients that are other users of the host, for tests that run as root."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from sandboxd.warden.code_view import first_closed

from . import needs
from .http_clients import GUARD_S, NO_TLS

ROOT = Path(__file__).parents[1]

ALICE, BOB = 4_200_001, 4_200_002
"""Uids and gids without an account, apart from those of slots."""


@contextmanager
def acting_as(uid: int, groups: Sequence[int] = ()) -> Iterator[None]:
    """Let this process be the user `uid` for the kernel, with a gid of the same number."""
    before = os.getgroups()
    os.setgroups(groups)
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)


class UserTransport(httpx.HTTPTransport):
    """A transport whose connections are those of a user."""

    def __init__(self, path: str, uid: int, groups: Sequence[int]) -> None:
        super().__init__(uds=path, verify=NO_TLS)
        self._user = uid, groups

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request as the user, who may connect for it."""
        with acting_as(*self._user):
            return super().handle_request(request)


def client_of(path: str, uid: int, groups: Sequence[int] = ()) -> httpx.Client:
    """A client of the user `uid`, who is in further `groups`, at the Unix socket `path`."""
    transport = UserTransport(path, uid, groups)
    return httpx.Client(transport=transport, base_url="http://sandboxd", timeout=GUARD_S)


def sandboxd_as(
    uid: int,
    *args: str,
    groups: Sequence[int] = (),
    environ: Mapping[str, str] | None = None,
    gid: int | None = None,
    folder: Path = Path("/"),
) -> subprocess.CompletedProcess[str]:
    """`sandboxd ARGS` of the user `uid`, who is in further `groups`, with more variables of the
    environment; `gid` is the user's own group, `uid` if there is none."""
    needs_access(uid)
    return subprocess.run(
        [sys.executable, "-P", "-m", "sandboxd", *args],
        user=uid, group=uid if gid is None else gid, extra_groups=groups, cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
        | dict(environ or {}),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def needs_access(uid: int) -> None:
    """Skip the test where the user `uid` cannot run the code of this checkout."""
    for path in (str(ROOT), sys.executable):
        if closed := first_closed(path, uid):
            needs.elsewhere(f"{closed} is closed to other users, who are to run the command there")


def command_of(uid: int) -> str:
    """The words of `sandboxd` for a shell of the user `uid`."""
    needs_access(uid)
    python = f"PYTHONPATH={ROOT} PYTHONDONTWRITEBYTECODE=1 {sys.executable}"
    return f"env {python} -P -m sandboxd"
