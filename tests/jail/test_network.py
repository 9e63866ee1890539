"""The bounds of a run's network, on a host that shows /proc/sys read-only."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from sandboxd.errors import StageError
from sandboxd.jail import network, syscalls
from sandboxd.warden.doctor.trial import attempt

SETTINGS = "/proc/sys"
PRIVATE = syscalls.MS_REC | syscalls.MS_PRIVATE
READ_ONLY = 0x1 | 0x20 | syscalls.MS_BIND  # MS_RDONLY, MS_REMOUNT


def bounds() -> str:
    """The settings of a new network, where /proc/sys is read-only as in a unit with
    ProtectKernelTunables=."""
    syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWNET)
    syscalls.mount(None, "/", None, PRIVATE)
    syscalls.mount(SETTINGS, SETTINGS, None, syscalls.MS_BIND)
    syscalls.mount(None, SETTINGS, None, READ_ONLY)
    network.apply()
    network.verify()
    return " ".join(" ".join(Path(one).read_text().split()) for one, _ in network.BOUNDS)


def host() -> list[str]:
    return [Path(one).read_text() for one, _ in network.BOUNDS]


@pytest.mark.root
def test_network_is_bounded_where_the_settings_are_shown_read_only() -> None:
    before = host()
    assert attempt(bounds, 20) == f"4096 131072 {network.RECEIVE_MAX} 16384"
    assert host() == before


@pytest.mark.root
def test_network_that_cannot_be_bounded_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: str) -> int:
        raise OSError(errno.EPERM, "refused")

    monkeypatch.setattr(syscalls, "mount_nowhere", refused)
    with pytest.raises(StageError) as caught:
        attempt(bounds, 20)
    assert caught.value.errno == errno.EPERM


@pytest.mark.root
@pytest.mark.parametrize("setting", [setting for setting, _ in network.BOUNDS])
def test_network_of_which_the_kernel_has_another_bound_stops_the_run(setting: str) -> None:
    def changed() -> str:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        network.apply()
        network.verify()
        Path(setting).write_text(" ".join(["4096"] * len(Path(setting).read_text().split())))
        network.verify()
        return ""

    with pytest.raises(StageError, match=rf"{setting} is 4096.*, not "):
        attempt(changed, 20)
