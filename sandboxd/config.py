"""One frozen Config. Every default of sandboxd stands in this file, once.

A configuration file (config_file.py) may set any field below; its tables are named as the fields
are ([limits.exec], [scratch], [runtimes.NAME] ...).
"""

from __future__ import annotations

import dataclasses
import functools
import os
from dataclasses import dataclass, field

from .model import GIB, MIB, Limits

STATE_DIR = "/var/lib/sandboxd"
SOCKET = "/run/sandboxd/api.sock"
METRICS = "127.0.0.1:9464"

STEP_LIMITS = Limits(
    wall_s=30, cpu_s=3600, memory=1 * GIB, pids=256, cpus=1.0, nofile=4096, fsize=1 * GIB,
    shm=64 * MIB, disk=1024 * GIB, inodes=1 << 31, output=1024 * GIB,
)  # fmt: skip
"""Limits of a step. The scratch of the session bounds disk and inodes further."""


@dataclass(frozen=True, slots=True)
class StepLimitsConfig:
    """Limits of each step when neither the session nor the request sets them."""

    clean: Limits = STEP_LIMITS
    build: Limits = dataclasses.replace(STEP_LIMITS, wall_s=300)
    exec: Limits = STEP_LIMITS


@dataclass(frozen=True, slots=True)
class SlotsConfig:
    """`count` sessions at most; slot n has uid and gid `first_uid` + n, used by nothing else."""

    first_uid: int = 524288
    count: int = 1000


@dataclass(frozen=True, slots=True)
class ScratchConfig:
    """The writable area of a session, a file system of its own size.

    kind    image: a sparse ext4 image in the state directory, survives a restart;
            tmpfs: in memory, for hosts without loop devices, gone after a restart
    size    bytes
    inodes  files and directories
    """

    kind: str = "image"
    size: int = 1 * GIB
    inodes: int = 65536


@dataclass(frozen=True, slots=True)
class FoldersConfig:
    """Virtual folders: files that outlive sessions, each in a file system of its own size.

    size    bytes of a folder whose owner asks for no quota, and the most that one may ask for
    inodes  files and directories of one at most; a small folder has one for each 8 KiB
    count   folders of one owner
    token_s seconds that the token of an upload or download can be used
    """

    size: int = 10 * GIB
    inodes: int = 1 << 20
    count: int = 100
    token_s: float = 3600


@dataclass(frozen=True, slots=True)
class RootfsConfig:
    """What of the host is visible, read-only, in every jail. Missing ones are left out.

    paths  directories, bound recursively; a link is copied as a link
    etc    names below /etc, bound, with * and ? for families; passwd, group, hosts and the
           like are generated instead
    """

    paths: tuple[str, ...] = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
    etc: tuple[str, ...] = (
        "alternatives", "bash.bashrc", "debian_version", "fonts", "java-*-openjdk",
        "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "lsb-release", "magic",
        "mime.types", "os-release", "perl", "php", "profile", "profile.d", "protocols",
        "python3", "services", "shells", "ssl/certs", "ssl/openssl.cnf", "terminfo",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class FilesConfig:
    """Bounds on file calls: files of one upload, bytes of each, paths of one download."""

    upload_files: int = 20
    upload_size: int = 1 * MIB
    download_files: int = 5


@dataclass(frozen=True, slots=True)
class ConsoleConfig:
    """How much output is kept and sent.

    response_chars  characters of stdout, and as many of stderr, in one response
    head, tail      bytes kept of a run's output from its start and from its end
    input_s         seconds until an unanswered waiting-input closes standard input
    runs_kept       finished runs of a session whose output can be read again
    keep_s          seconds after its end that a run can be asked for; 0: as long as the session
    kept_size       bytes of disk that the output of a session's finished runs may take
    """

    response_chars: int = 524288
    head: int = 16 * MIB
    tail: int = 16 * MIB
    input_s: float = 300
    runs_kept: int = 4
    keep_s: float = 7 * 86400
    kept_size: int = 256 * MIB


@dataclass(frozen=True, slots=True)
class SessionsConfig:
    """How sessions begin and end.

    idle_s        seconds without a request or a run after which a session ends; 0: it never does
    max_age_s     seconds after which a session ends, whatever goes on in it; 0: it never does
    warn_s        seconds before such an end at which it is told
    batch_keep_s  seconds that a session of the type batch stays after its command
    wait_s        the most seconds that a creation waits for a free slot, if its client asks for it
    ended_kept    sessions of an owner that are over and can still be looked at
    """

    idle_s: float = 0
    max_age_s: float = 0
    warn_s: float = 60
    batch_keep_s: float = 20
    wait_s: float = 60
    ended_kept: int = 1000


@dataclass(frozen=True, slots=True)
class TerminalConfig:
    """Terminals: a shell that a client sits at. It has the limits of exec, but for the time.

    wall_s  seconds after which it is ended; for CPU time the ceiling is the limit
    idle_s  seconds without a key, a change of its size or a ping after which it is closed
    """

    wall_s: float = 12 * 3600
    idle_s: float = 3600


@dataclass(frozen=True, slots=True)
class OwnerAdmissionConfig:
    """What one owner may have at once; see Admission."""

    sessions: int = 500
    runs: int = 100
    memory: float = 0.7
    disk: float = 15.0
    waiting: int = 200


@dataclass(frozen=True, slots=True)
class AdmissionConfig:
    """What is promised at once, of what the host has. What is over it waits, or is refused.

    runs      that are going on
    memory    limits of these runs together, as a share of the host's memory
    disk      sizes of scratches and folders together, in times the free space: they are sparse
    sessions  of an owner; all together are slots.count
    waiting   runs of an owner that may wait, and as many sessions
    """

    runs: int = 200
    memory: float = 0.9
    disk: float = 20.0
    owner: OwnerAdmissionConfig = OwnerAdmissionConfig()


@dataclass(frozen=True, slots=True)
class StopConfig:
    """What SIGTERM does to the runs that go on.

    runs     keep: they go on, and the next daemon takes them up;
             drain: nothing new begins, and the daemon ends when they have
    grace_s  seconds that they get for that; what is left is ended
    """

    runs: str = "keep"
    grace_s: float = 60


@dataclass(frozen=True, slots=True)
class HttpConfig:
    """Bounds on clients.

    connections         open at once, and not more than half the files that the process may
                        have; source_connections: from one address
    requests            of one owner at once, open streams among them
    bodies              bytes of JSON bodies on their way, of all requests together
    """

    connections: int = 2000
    source_connections: int = 500
    requests: int = 500
    bodies: int = 64 * MIB


@dataclass(frozen=True, slots=True)
class RequireConfig:
    """What this host must be able to guarantee, or the daemon does not start.

    guarantees  names, as `sandboxd doctor` lists them (warden/doctor/guarantees.py)
    """

    guarantees: tuple[str, ...] = (
        "mount-namespace", "pid-namespace", "network-namespace", "ipc-namespace", "uts-namespace",
        "cgroup-namespace", "sealed-mounts", "devices", "own-proc", "loopback", "privileges",
        "no-new-privs", "rlimits", "seccomp", "whole-run", "cgroup-memory", "cgroup-pids",
        "cgroup-cpu", "no-swap", "cgroup-kill", "openat2", "scratch", "uids", "interpreter",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """[runtimes.NAME]: a new runtime, or what differs from the built-in one of that name.

    seccomp_allow, seccomp_refuse  system calls that its programs may make besides those of
                                   jail/profile.py, and such that they may not
    """

    aliases: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    clean: str = ""
    build: str = ""
    exec: str = ""
    environ: dict[str, str] = field(default_factory=dict)
    enabled: bool = True
    seccomp_allow: tuple[str, ...] = ()
    seccomp_refuse: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Config:
    """Everything the daemon can be told. See config_file.load."""

    listen: tuple[str, ...] = (f"unix:{SOCKET}",)
    state_dir: str = STATE_DIR
    cgroup: str = ""  # delegated, below /sys/fs/cgroup, for the runs; "": the daemon makes one
    auth: str = ""  # or "keypair"; "none": no signatures; see docs/authentication.md
    rate_limit: int = 30000  # requests of a keypair in 900 s, unless it has a limit of its own
    metrics: str = METRICS  # where Prometheus and health checks ask: HOST:PORT, unix:PATH, "": off
    log: str = "text"  # the form of the log's lines, or "json"
    log_level: str = "info"  # what is told at least: debug (every request), info, warning, error
    sweep_s: float = 60  # seconds between two looks for what nobody has; see operations.md
    disk_floor: int = 64 * MIB  # bytes free in state_dir below which /readyz says no
    limits: StepLimitsConfig = StepLimitsConfig()
    ceiling: Limits = dataclasses.replace(
        STEP_LIMITS, wall_s=3600, cpu_s=14400, memory=4 * GIB, pids=1024,
        cpus=float(os.cpu_count() or 1), nofile=65536, fsize=16 * GIB, shm=1 * GIB,
    )  # fmt: skip
    slots: SlotsConfig = SlotsConfig()
    scratch: ScratchConfig = ScratchConfig()
    folders: FoldersConfig = FoldersConfig()
    sessions: SessionsConfig = SessionsConfig()
    admission: AdmissionConfig = AdmissionConfig()
    http: HttpConfig = HttpConfig()
    stop: StopConfig = StopConfig()
    rootfs: RootfsConfig = RootfsConfig()
    files: FilesConfig = FilesConfig()
    console: ConsoleConfig = ConsoleConfig()
    terminal: TerminalConfig = TerminalConfig()
    require: RequireConfig = RequireConfig()
    runtimes: dict[str, RuntimeConfig] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """No step can write more than there is room for: so far limits and ceiling go."""
        lowered = functools.partial(_within, self.scratch)
        steps = dataclasses.asdict(self.limits)
        within = StepLimitsConfig(**{name: lowered(Limits(**step)) for name, step in steps.items()})
        object.__setattr__(self, "limits", within)  # frozen from here on
        object.__setattr__(self, "ceiling", lowered(self.ceiling))


def _within(scratch: ScratchConfig, limits: Limits) -> Limits:
    disk, inodes = min(limits.disk, scratch.size), min(limits.inodes, scratch.inodes)
    return dataclasses.replace(limits, disk=disk, inodes=inodes)
