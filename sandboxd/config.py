"""One frozen Config, from TOML. Every default of sandboxd stands in this file, once.

A file may set any field below; tables are named as the fields are ([limits.exec], [scratch],
[runtimes.NAME] ...). Unknown keys and wrong types are refused with the key's full name.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import tomllib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import log
from .errors import ConfigError
from .model import GIB, MIB, Limits

STATE_DIR = "/var/lib/sandboxd"
SOCKET = "/run/sandboxd/api.sock"
METRICS = "127.0.0.1:9464"


@dataclass(frozen=True, slots=True)
class StepLimits:
    """What each step may use when neither session nor request says otherwise."""

    clean: Limits = Limits(wall_s=30)
    build: Limits = Limits(wall_s=300)
    exec: Limits = Limits(wall_s=30)


@dataclass(frozen=True, slots=True)
class Slots:
    """`count` sessions at most; slot n has uid and gid `first_uid` + n, used by nothing else."""

    first_uid: int = 524288
    count: int = 1000


@dataclass(frozen=True, slots=True)
class Scratch:
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
class Folders:
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
class Rootfs:
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
class Files:
    """Bounds on file calls: files of one upload, bytes of each, paths of one download."""

    upload_files: int = 20
    upload_size: int = 1 * MIB
    download_files: int = 5


@dataclass(frozen=True, slots=True)
class Console:
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
class Sessions:
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
class Terminal:
    """Terminals: a shell that a client sits at. It has the limits of exec, but for the time.

    wall_s  seconds after which it is ended; for CPU time the ceiling is the limit
    idle_s  seconds without a key, a change of its size or a ping after which it is closed
    """

    wall_s: float = 12 * 3600
    idle_s: float = 3600


@dataclass(frozen=True, slots=True)
class OwnerAdmission:
    """What one owner may have at once; see Admission."""

    sessions: int = 500
    runs: int = 100
    memory: float = 0.7
    disk: float = 15.0
    waiting: int = 200


@dataclass(frozen=True, slots=True)
class Admission:
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
    owner: OwnerAdmission = OwnerAdmission()


@dataclass(frozen=True, slots=True)
class Stop:
    """What SIGTERM does to the runs that go on.

    runs     keep: they go on, and the next daemon takes them up;
             drain: nothing new begins, and the daemon ends when they have
    grace_s  seconds that they get for that; what is left is ended
    """

    runs: str = "keep"
    grace_s: float = 60


@dataclass(frozen=True, slots=True)
class Http:
    """Bounds on clients.

    connections         open at once; source_connections: from one address
    requests            of one owner at once, open streams among them
    bodies              bytes of JSON bodies on their way, of all requests together
    """

    connections: int = 2000
    source_connections: int = 500
    requests: int = 500
    bodies: int = 64 * MIB


@dataclass(frozen=True, slots=True)
class Require:
    """What this host must be able to guarantee, or the daemon does not start.

    guarantees  names, as `sandboxd doctor` lists them (warden/guarantees.py)
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
    """Everything the daemon can be told. See `load`."""

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
    limits: StepLimits = StepLimits()
    ceiling: Limits = Limits(
        wall_s=3600, cpu_s=14400, memory=4 * GIB, pids=1024, cpus=float(os.cpu_count() or 1),
        nofile=65536, fsize=16 * GIB, shm=1 * GIB,
    )  # fmt: skip
    slots: Slots = Slots()
    scratch: Scratch = Scratch()
    folders: Folders = Folders()
    sessions: Sessions = Sessions()
    admission: Admission = Admission()
    http: Http = Http()
    stop: Stop = Stop()
    rootfs: Rootfs = Rootfs()
    files: Files = Files()
    console: Console = Console()
    terminal: Terminal = Terminal()
    require: Require = Require()
    runtimes: dict[str, RuntimeConfig] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """No step can write more than there is room for: so far limits and ceiling go."""
        lowered = functools.partial(_within, self.scratch)
        steps = dataclasses.asdict(self.limits)
        within = StepLimits(**{name: lowered(Limits(**step)) for name, step in steps.items()})
        object.__setattr__(self, "limits", within)  # frozen from here on
        object.__setattr__(self, "ceiling", lowered(self.ceiling))


def _within(scratch: Scratch, limits: Limits) -> Limits:
    disk, inodes = min(limits.disk, scratch.size), min(limits.inodes, scratch.inodes)
    return dataclasses.replace(limits, disk=disk, inodes=inodes)


def load(path: str | None, **overrides: Any) -> Config:
    """The Config of the TOML file at `path`, None: all defaults. `overrides` win, unless None.

    Raises ConfigError naming file, key and what is allowed.
    """
    table: dict[str, Any] = {}
    if path is not None:
        try:
            table = tomllib.loads(Path(path).read_text())
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}; name a readable file") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: not valid TOML: {error}") from None
    table |= {key: value for key, value in overrides.items() if value is not None}
    config = _build(Config, table, "")
    _check(config)
    return typing.cast(Config, config)


def from_table(table: dict[str, Any]) -> Config:
    """The Config that `dataclasses.asdict` has made `table` of, also after JSON.

    Raises ConfigError.
    """
    config = _build(Config, table, "")
    _check(config)
    return typing.cast(Config, config)


RESTART = (
    "listen", "metrics", "state_dir", "auth", "cgroup", "require", "slots", "scratch.kind",
    "console.head", "console.tail",
)  # fmt: skip
"""What counts from the next start of the daemon on: sockets, uids, the form of what is on disk.
All else counts as soon as the file has been read again."""


def renewed(old: Config, new: Config) -> tuple[Config, list[str], list[str]]:
    """`new`, but with `old`'s values of what only a restart changes; the names of what is other
    now; and of what would be, after a restart."""
    before, after = (dict(_flat(dataclasses.asdict(config))) for config in (old, new))
    differ = sorted(
        name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
    )
    late = [name for name in differ if name.startswith(RESTART)]
    for name in RESTART:
        part, _, field_name = name.partition(".")
        if part not in {f.name for f in dataclasses.fields(Config)}:
            continue
        value = getattr(old, part)
        if field_name:
            kept = {field_name: getattr(value, field_name)}
            value = dataclasses.replace(getattr(new, part), **kept)
        new = dataclasses.replace(new, **{part: value})
    return new, [name for name in differ if name not in late], late


def _flat(table: dict[str, Any], where: str = "") -> typing.Iterator[tuple[str, Any]]:
    """Every value by its full name."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{where}{key}.")
        else:
            yield f"{where}{key}", value


def _build(cls: type[Any], table: Any, where: str) -> Any:
    """`cls` (a dataclass) out of a TOML table, its own defaults for what is absent."""
    if not isinstance(table, dict):
        raise ConfigError(f"[{where}] must be a table")
    known = typing.get_type_hints(cls)
    if unknown := sorted(set(table) - set(known)):
        name = f"{where}.{unknown[0]}".lstrip(".")
        raise ConfigError(f"unknown key {name}; known here: {', '.join(sorted(known))}")
    defaults = {f.name: f.default for f in dataclasses.fields(cls)}
    values = {
        key: _value(known[key], value, f"{where}.{key}".lstrip("."), defaults[key])
        for key, value in table.items()
    }
    return cls(**values)


def _value(kind: Any, value: Any, where: str, default: Any) -> Any:
    """`value` checked and converted to the annotated `kind` of a field."""
    if dataclasses.is_dataclass(kind):
        if default is not dataclasses.MISSING and isinstance(value, dict):
            plain = {f.name: getattr(default, f.name) for f in dataclasses.fields(kind)}
            built = _build(typing.cast(Any, kind), value, where)
            return dataclasses.replace(
                default, **{k: getattr(built, k) for k in value if k in plain}
            )
        return _build(typing.cast(Any, kind), value, where)
    origin = typing.get_origin(kind)
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_value(str, item, where, None) for item in value)
    if origin is dict and isinstance(value, dict):
        inner = typing.get_args(kind)[1]
        missing = dataclasses.MISSING
        return {k: _value(inner, v, f"{where}.{k}", missing) for k, v in value.items()}
    if kind is float and type(value) in (int, float):
        return float(value)
    if not isinstance(kind, types.GenericAlias) and type(value) is kind:
        return value
    raise ConfigError(f"{where} must be {_named(kind)}, not {value!r}")


def _named(kind: Any) -> str:
    names = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
    return names.get(kind) or ("a list of texts" if typing.get_origin(kind) is tuple else "a table")


def _check(config: Config) -> None:
    """Rules between fields."""
    if config.auth not in ("", "keypair", "none"):
        raise ConfigError(f'auth is "keypair", the default, or "none", not {config.auth!r}')
    if config.log not in log.FORMS or config.log_level not in log.LEVELS:
        forms, levels = (
            " or ".join(f'"{one}"' for one in known) for known in (log.FORMS, log.LEVELS)
        )
        raise ConfigError(f"log is {forms}, log_level is {levels}")
    if config.sweep_s < 1:
        raise ConfigError("sweep_s must be 1 or more, in seconds")
    if config.disk_floor < 0:
        raise ConfigError("disk_floor must be 0 or more, in bytes")
    if config.rate_limit < 1:
        raise ConfigError("rate_limit must be 1 or more, in requests per 900 s")
    if config.scratch.kind not in ("image", "tmpfs"):
        raise ConfigError(f'scratch.kind is "image" or "tmpfs", not {config.scratch.kind!r}')
    if not 16 * MIB <= config.scratch.size <= 1024 * GIB:
        raise ConfigError("scratch.size must be between 16 MiB and 1 TiB, in bytes")
    if not 16 * MIB <= config.folders.size <= 1024 * GIB:
        raise ConfigError("folders.size must be between 16 MiB and 1 TiB, in bytes")
    # the last slot's uid stays below that of virtual folders (warden/folders.py)
    if not 1000 <= config.slots.first_uid <= 0x7FFE0000 or not 1 <= config.slots.count <= 65536:
        raise ConfigError("slots.first_uid must be 1000 or more, slots.count 1 to 65536")
    if not os.path.isabs(config.state_dir):
        raise ConfigError(f"state_dir must be an absolute path, not {config.state_dir!r}")
    for bounds in (config.admission, config.admission.owner):
        for name in (f.name for f in dataclasses.fields(bounds) if f.name != "owner"):
            if getattr(bounds, name) <= 0:
                raise ConfigError(f"admission.*.{name} must be above 0")
    if config.cgroup and (config.cgroup.startswith("/") or ".." in config.cgroup.split("/")):
        raise ConfigError(f"cgroup is a path below /sys/fs/cgroup, not {config.cgroup!r}")
    for part in ("console", "files"):
        if min(dataclasses.astuple(getattr(config, part))) <= 0:
            raise ConfigError(f"{part}.* must be above 0")
    if config.stop.runs not in ("keep", "drain"):
        raise ConfigError(f'stop.runs is "keep" or "drain", not {config.stop.runs!r}')
    if config.stop.grace_s < 0:
        raise ConfigError("stop.grace_s must be 0 or more")
    if min(dataclasses.astuple(config.http)) < 1:
        raise ConfigError("http.* must be 1 or more")
    if min(dataclasses.astuple(config.sessions)) < 0:
        raise ConfigError("sessions.* must be 0 or more")
    if min(dataclasses.astuple(config.terminal)) <= 0:
        raise ConfigError("terminal.* must be above 0, in seconds")
    for step in ("clean", "build", "exec"):
        _, low = getattr(config.limits, step).clamped(config.ceiling)
        if low:
            raise ConfigError(f"limits.{step}.{low[0]} is above ceiling.{low[0]}")
    for name in (f.name for f in dataclasses.fields(Limits)):
        if any(getattr(getattr(config.limits, s), name) <= 0 for s in ("clean", "build", "exec")):
            raise ConfigError(f"limits.*.{name} must be above 0")
