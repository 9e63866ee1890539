"""The configuration as one frozen value, Config. Every default of sandboxd is in this file and
in those of the tables that it imports.

A configuration file (toml_file.py) may set any field below. Its tables have the names of the
fields: [limits.exec], [scratch], [runtimes.NAME] and so on.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from dataclasses import dataclass, field

from ..model import GIB, MIB, UNLIMITED, Limits
from . import etc_names
from .folder_tables import FoldersConfig, WorkspacesConfig
from .network_profiles import NetworkConfig

STATE_DIR = "/var/lib/sandboxd"
SOCKET = "/run/sandboxd/api.sock"
METRICS = "127.0.0.1:9464"

RESULTS_S = 24 * 3600.0
"""Seconds for which results of `sandboxd run` that could not be fetched stay."""

STEP_LIMITS = Limits(
    grace_s=2,
    wall_s=30, cpu_s=3600, memory=1 * GIB, pids=256, cpus=1.0, nofile=4096, fsize=1 * GIB,
    shm=64 * MIB, disk=1024 * GIB, inodes=1 << 31, output=1024 * GIB, output_end=1024 * GIB,
    stack=8 * MIB,
)  # fmt: skip
"""Limits of a step. The scratch of the session bounds disk and inodes further."""


@dataclass(frozen=True, slots=True)
class StepLimitsConfig:
    """Limits of each step when neither the session nor the request sets them."""

    clean: Limits = STEP_LIMITS
    build: Limits = dataclasses.replace(STEP_LIMITS, wall_s=300)
    exec: Limits = STEP_LIMITS


BYTES_OF_INODE = 2048
"""Bytes of a scratch for each inode at least. An inode takes 256 bytes of its image, whether it is
used or not, and at least half of a scratch is for the content of files."""


@dataclass(frozen=True, slots=True)
class SlotsConfig:
    """The slots: at most `count` sessions. Slot n has the uid and gid `first_uid` + n; nothing else
    on the host uses them."""

    first_uid: int = 524288
    count: int = 1000


@dataclass(frozen=True, slots=True)
class ScratchConfig:
    """The writable area of a session, a file system of its own size.

    kind    image: a sparse ext4 image in the state directory, which survives a restart;
            tmpfs: in memory, for hosts without loop devices, lost at a restart
    size    bytes
    inodes  files and directories
    spares  scratches of this size that are made ahead; 0 for none
    """

    kind: str = "image"
    size: int = 1 * GIB
    inodes: int = 65536
    spares: int = 3

    def inodes_of(self, size: int) -> int:
        """Files and directories of a scratch of `size` bytes."""
        return min(self.inodes, size // BYTES_OF_INODE)


@dataclass(frozen=True, slots=True)
class RootfsConfig:
    """The parts of the host that every jail shows read-only; missing parts are left out.

    paths          directories, bound recursively; a link is copied as a link
    etc            names below /etc, bound, with * and ? as wildcards, in addition to ETC and
                   ETC_UNCHANGED; passwd, group, hosts and the like are generated instead
    replace_etc    `etc` replaces these two lists
    package_files  files below /etc and /var/lib that a package ships and that are unchanged are
                   shown too (jail/shown_files.py)
    """

    paths: tuple[str, ...] = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
    etc: tuple[str, ...] = ()
    replace_etc: bool = False
    package_files: bool = True

    @property
    def etc_builtin(self) -> tuple[str, ...]:
        """The names of ETC, unless they are replaced."""
        return () if self.replace_etc else etc_names.ETC

    @property
    def etc_unchanged(self) -> tuple[str, ...]:
        """The names of ETC_UNCHANGED, unless they are replaced."""
        return () if self.replace_etc else etc_names.ETC_UNCHANGED


@dataclass(frozen=True, slots=True)
class FilesConfig:
    """Bounds on file calls: files of one upload, bytes of each, paths of one download."""

    upload_files: int = 20
    upload_size: int = 1 * MIB
    download_files: int = 5


@dataclass(frozen=True, slots=True)
class ConsoleConfig:
    """Bounds on the output of runs: how much is stored, for how long, and how much is sent at once.

    response_chars  characters of stdout, and as many of stderr, in one response
    head, tail      bytes stored from the start and from the end of a run's output
    input_s         seconds until an unanswered waiting-input closes standard input
    runs_kept       finished runs of a session whose output can be read again
    keep_s          seconds after its end for which a run can be read; 0: as long as the session
    kept_size       bytes of disk for the output of a session's finished runs
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
    """The start and the end of sessions.

    idle_s        seconds without a request or a run after which a session ends; 0: never
    max_age_s     seconds after which a session ends, even while a run goes on; 0: never
    warn_s        seconds between the warning and the end of an idle or old session
    batch_keep_s  seconds for which a session of the type batch stays after its command
    wait_s        upper bound of the seconds for which a creation may wait for a free slot
    ended_kept    ended sessions of an owner whose description can still be read
    """

    idle_s: float = 0
    max_age_s: float = 0
    warn_s: float = 60
    batch_keep_s: float = 20
    wait_s: float = 60
    ended_kept: int = 1000


@dataclass(frozen=True, slots=True)
class RunsConfig:
    """The start of runs.

    prepared  jails that wait, complete but for a session, so that a run begins at once; each takes
              some MiB of memory and two processes; 0: none
    warm_s    seconds for which the jail of a run that has ended by itself stays for the next run of
              the same session; 0: none stays
    """

    prepared: int = (os.cpu_count() or 1) + 1
    warm_s: float = 3.0


@dataclass(frozen=True, slots=True)
class TerminalConfig:
    """Terminals: interactive shells of clients. A terminal has the limits of exec except for time.

    wall_s  seconds after which a terminal ends; the limit of its CPU time is the ceiling
    idle_s  seconds without a key, a change of size or a ping after which a terminal is closed
    """

    wall_s: float = 12 * 3600
    idle_s: float = 3600


@dataclass(frozen=True, slots=True)
class OwnerAdmissionConfig:
    """The share of one owner; the fields are those of AdmissionConfig."""

    sessions: int = 500
    runs: int = 100
    memory: float = 0.7
    tasks: float = 0.6
    disk: float = 15.0
    waiting: int = 200


@dataclass(frozen=True, slots=True)
class AdmissionConfig:
    """The capacity of the host that is promised at one time. A run or session beyond these bounds
    waits or is refused.

    runs      runs that go on
    memory    sum of the memory limits of these runs, as a share of the host's memory
    tasks     sum of their limits of processes and threads, as a share of the tasks that the host
              and the cgroup of the daemon still allow; the rest is for the host, the daemon and
              its file helpers
    disk      sum of the sizes of scratches and folders, as a multiple of the free space: their
              images are sparse
    sessions  sessions of one owner; slots.count bounds all sessions together
    waiting   waiting runs of one owner, and as many waiting sessions
    """

    runs: int = 200
    memory: float = 0.9
    tasks: float = 0.8
    disk: float = 20.0
    owner: OwnerAdmissionConfig = OwnerAdmissionConfig()


@dataclass(frozen=True, slots=True)
class StopConfig:
    """The effect of SIGTERM on the runs that go on.

    runs     keep: the runs go on, and the next daemon takes them up;
             drain: no new run begins, and the daemon ends after the last run
    grace_s  seconds for that; the daemon then ends the remaining runs
    """

    runs: str = "keep"
    grace_s: float = 60


@dataclass(frozen=True, slots=True)
class HttpConfig:
    """Bounds on clients.

    connections         open connections, at most half of the files that the process may open, of
                        which the Unix socket has a quarter for itself
    source_connections  open connections from one address
    requests            requests of one owner at one time, open streams included; as many
                        connections of an owner keep their permits (api/http/connection_permits.py)
    bodies              bytes of JSON bodies, WebSocket messages, inputs of waiting runs and output
                        of cases in memory, of all clients together; one owner may use half of them
    """

    connections: int = 2000
    source_connections: int = 500
    requests: int = 500
    bodies: int = 64 * MIB


@dataclass(frozen=True, slots=True)
class RequireConfig:
    """The guarantees without which the daemon does not start.

    guarantees  names in the list of `sandboxd doctor` (warden/doctor/guarantees.py)
    """

    guarantees: tuple[str, ...] = (
        "mount-namespace", "pid-namespace", "network-namespace", "ipc-namespace", "uts-namespace",
        "cgroup-namespace", "sealed-mounts", "own-inodes", "devices", "own-proc", "loopback",
        "privileges", "no-new-privs", "rlimits", "seccomp", "whole-run", "cgroup-memory",
        "cgroup-pids", "cgroup-cpu", "no-swap", "cgroup-kill", "file-locks", "openat2", "scratch",
        "uids", "interpreter",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """[runtimes.NAME]: a new runtime, or changes to the built-in runtime of that name.

    seccomp_allow   system calls that its programs may make besides those of jail/profile.py
    seccomp_refuse  system calls of jail/profile.py that its programs may not make
    paths           files and directories of the host that its tools read, besides RootfsConfig's
    """

    aliases: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    build: str = ""
    exec: str = ""
    environ: dict[str, str] = field(default_factory=dict)
    enabled: bool = True
    seccomp_allow: tuple[str, ...] = ()
    seccomp_refuse: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Config:
    """All settings of the daemon. See toml_file.load."""

    listen: tuple[str, ...] = (f"unix:{SOCKET}",)
    state_dir: str = STATE_DIR
    cgroup: str = ""  # delegated, below /sys/fs/cgroup, for the runs; "": the daemon makes one
    auth: str = "keypair"  # or "none": no signatures; see docs/authentication.md
    admin_groups: tuple[str, ...] = ()  # names or gids; their users are admins at a Unix socket
    rate_limit: int = 30000  # requests of a keypair in 900 s, unless it has a limit of its own
    metrics: str = METRICS  # the listener for Prometheus and health: HOST:PORT, unix:PATH, "": off
    log: str = "text"  # the form of the log's lines, or "json"
    log_level: str = "info"  # the lowest level that is logged: debug (every request) to error
    sweep_s: float = 60  # seconds between two checks for leaks; see docs/operations.md
    disk_floor: int = 64 * MIB  # bytes free in state_dir below which /readyz says no
    run_files: int = 0  # open files of all processes of a run; at most, and by 0, half of file-max
    limits: StepLimitsConfig = StepLimitsConfig()
    ceiling: Limits = dataclasses.replace(
        STEP_LIMITS, wall_s=3600, cpu_s=14400, grace_s=10, memory=4 * GIB, pids=1024,
        cpus=float(os.cpu_count() or 1), nofile=65536, fsize=16 * GIB, shm=1 * GIB,
        stack=UNLIMITED,
    )  # fmt: skip
    slots: SlotsConfig = SlotsConfig()
    scratch: ScratchConfig = ScratchConfig()
    folders: FoldersConfig = FoldersConfig()
    workspaces: WorkspacesConfig = WorkspacesConfig()
    sessions: SessionsConfig = SessionsConfig()
    admission: AdmissionConfig = AdmissionConfig()
    http: HttpConfig = HttpConfig()
    stop: StopConfig = StopConfig()
    rootfs: RootfsConfig = RootfsConfig()
    files: FilesConfig = FilesConfig()
    console: ConsoleConfig = ConsoleConfig()
    runs: RunsConfig = RunsConfig()
    terminal: TerminalConfig = TerminalConfig()
    require: RequireConfig = RequireConfig()
    network: NetworkConfig = NetworkConfig()
    runtimes: dict[str, RuntimeConfig] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Lower limits and ceiling to the size of the scratch: no step can write more."""
        lowered = functools.partial(_within, self.scratch)
        steps = dataclasses.asdict(self.limits)
        within = StepLimitsConfig(**{name: lowered(Limits(**step)) for name, step in steps.items()})
        object.__setattr__(self, "limits", within)  # frozen from here on
        object.__setattr__(self, "ceiling", lowered(self.ceiling))


def _within(scratch: ScratchConfig, limits: Limits) -> Limits:
    disk, inodes = min(limits.disk, scratch.size), min(limits.inodes, scratch.inodes)
    return dataclasses.replace(limits, disk=disk, inodes=inodes)
