"""The process of the broker: it starts as root, confines itself, and gives root up.

    cgroup    a group of its own, with limits
    secrets   the files with the headers of profiles, which no other process reads
    mounts    a view without the state of the daemon: an empty file system covers it
    rlimits   no core, few processes, many descriptors
    seccomp   the system calls that it needs
    identity  a uid of its own, no capabilities, no_new_privs

Only then it loads third-party code (broker/broker.py). It ends with its warden.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import resource
import signal
import stat
from typing import Any

from ... import crash, log
from ...config.network_profiles import NetworkConfig, SecretConfig
from ...config.toml_file import from_table
from ...errors import StageError
from ...jail import daemon_filters, identity, seccomp, syscalls
from ...jail.cgroup import Group
from ...jail.chroot import own_mounts
from ...jail.stage import expect, stage
from .. import inherited
from ..code_view import open_imports
from ..runs.spawner import unmount_below
from ..runtime_directory import RUNTIME

SECRET_MAX = 4096
TASKS = 256
FILES = 16384
ENVIRON = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""Variables of the daemon that the broker has, too: the certificates that it trusts."""


@dataclasses.dataclass(frozen=True, slots=True)
class BrokerSpec:
    """The values of one broker.

    group  the directories of its cgroup
    """

    network: NetworkConfig
    uid: int
    state_dir: str
    group: dict[str, str]
    log: str
    log_level: str

    def write(self) -> int:
        """A file with these values, for a new broker."""
        fd = os.memfd_create("sandboxd-broker", os.MFD_CLOEXEC)
        with open(fd, "w", encoding="utf-8", closefd=False) as file:
            json.dump(dataclasses.asdict(self), file)
        return fd

    @classmethod
    def read(cls, fd: int) -> BrokerSpec:
        """The values in the file `fd`."""
        with open(fd, encoding="utf-8") as file:
            values: dict[str, Any] = json.loads(os.pread(fd, os.fstat(file.fileno()).st_size, 0))
        network = from_table({"network": values.pop("network")}).network
        return cls(network, **values)


def main() -> None:
    """Be a broker until the warden closes its end of the socket."""
    sock = inherited.warden_socket()
    spec = BrokerSpec.read(inherited.VALUES)
    log.setup(spec.log, spec.log_level, "broker")
    crash.to_stderr()
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        syscalls.set_process_title("sandboxd: broker")
        secrets = _secrets(spec.network)
        _confine(spec)
    except StageError as error:
        log.event("broker.failed", 40, error=str(error))
        os._exit(1)
    # Third-party code is loaded only now, without root.
    from ...broker import broker

    broker.run(sock, spec.network, secrets)


def _confine(spec: BrokerSpec) -> None:
    group = Group(spec.group)
    group.join()
    group.verify_joined()
    own_mounts()
    unmount_below((spec.state_dir, RUNTIME))
    for place in (spec.state_dir, RUNTIME):
        _cover(place)
    open_imports(spec.uid, f"{spec.state_dir}/view")
    os.chdir("/")
    with stage("rlimits"):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        files = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
        for kind, value in (
            (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NPROC, TASKS),
            (resource.RLIMIT_NOFILE, files),
        ):  # fmt: skip
            resource.setrlimit(kind, (value, value))
    seccomp.apply_quiet(daemon_filters.of_broker())
    identity.apply(spec.uid, spec.uid)
    identity.verify(spec.uid, spec.uid)
    seccomp.verify()
    # After the change of uid, which would clear it (prctl(2)).
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    with stage("broker view"):
        expect("broker view", "state", [*set(os.listdir(spec.state_dir)) - {"view"}], [])


def _cover(place: str) -> None:
    """Cover a directory with an empty file system."""
    with stage("broker view"), contextlib.suppress(FileNotFoundError):
        flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
        syscalls.mount("tmpfs", place, "tmpfs", flags, "mode=755,size=64k,nr_inodes=64")


def _secrets(network: NetworkConfig) -> dict[tuple[str, str], str]:
    """The value of each secret, by profile and id. Raises StageError."""
    return {
        (name, id): secret_value(secret)
        for name, profile in network.profiles.items()
        for id, secret in profile.secrets.items()
    }


def secret_value(secret: SecretConfig) -> str:
    """The value of a header. Raises StageError for a file that others may read, too."""
    with stage("secret"):
        fd = os.open(secret.file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_uid or status.st_mode & 0o077:
                raise StageError("secret", f"{secret.file} must be a file of root with mode 0600")
            text = file.read(SECRET_MAX + 1).decode("latin-1").strip()
    if not text or len(text) > SECRET_MAX or not text.isascii() or not text.isprintable():
        raise StageError("secret", f"{secret.file} must have one line of ASCII")
    return text
