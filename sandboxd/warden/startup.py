"""The start of `sandboxd serve`: from a Config to two running halves.

The order matters. The warden takes its place among the cgroups while it has no children. It tries
the guarantees of the host before it listens. It binds the listeners as root (a socket below /run, a
port below 1024), or has them from the service manager. Then it forks the api, which gives root up
before it loads any third-party code. At last the warden takes a mount namespace of its own, in
which it mounts the scratches.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import os
import signal
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

from .. import crash, log, systemd
from ..config.listen_address import ListenAddress, keyed_paths, parse
from ..config.settings import METRICS, Config
from ..errors import ConfigError, SandboxdError
from ..host.tasks import TaskMeter
from ..jail import daemon_filters, identity, seccomp, syscalls
from ..jail.chroot import own_mounts
from ..model import Guarantee
from . import runtime_directory, uid_lease
from .code_view import open_imports
from .doctor import guarantees
from .doctor.checks import api_uid, check
from .host_groups import gid_of, with_gids
from .host_limits import within_host
from .loop import Api, WardenLoop
from .runs.cgroups import Hierarchy, own_name
from .shared_resources import Resources
from .slots import reserve, state_directory


def serve(config: Config, read_again: Callable[[], Config], private: bool = False) -> int:
    """Run the daemon until a signal ends it; its exit status. `read_again` reads the configuration
    again at SIGHUP. Raises ConfigError, StageError.

    Runs go on without the daemon until the next one adopts them. A `private` daemon has no
    successor, so its runs end with it.
    """
    log.setup(config.log, config.log_level, "warden")
    crash.to_stderr()
    # Until the loop handles SIGHUP: the configuration that is being read is new. Not SIG_IGN, which
    # programs would inherit.
    signal.signal(signal.SIGHUP, lambda *_: None)
    stop_signals: list[int] = []  # SIGTERMs that arrive before the loop handles them
    signal.signal(signal.SIGTERM, lambda number, _: stop_signals.append(number))
    uid = api_uid(config)
    check(config, uid)
    _check_listen(config)
    config = with_gids(config)
    guarantees.check_names(config)
    runtime_directory.make(uid_lease.LEASES)
    os.umask(0o077)
    notify = systemd.Notify()
    with contextlib.ExitStack() as stack:
        database = state_directory.make(config, uid)
        lock = state_directory.lock(config)
        stack.callback(os.close, lock)
        if reserve.release(config.state_dir):
            log.event("disk.full", logging.WARNING, path=config.state_dir, done="reserve given up")
        state_directory.expect_database(config)
        name = own_name(config.state_dir)
        hierarchy = Hierarchy.find(name, config.cgroup)
        stack.callback(hierarchy.remove)
        held = guarantees.find(config, uid, hierarchy)
        if stop_signals:  # the signal may have ended the trials, too, which then prove nothing
            return 0
        _stop_if_missing(held)
        meter = TaskMeter.of_daemon(config.cgroup, hierarchy.tasks)
        stack.callback(meter.close)
        config = within_host(config, meter.measure())
        listeners = _listeners(config, stack)
        monitor = _monitor(config, stack)
        addresses = [_address(listener) for listener in listeners]
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        trace = crash.TracePipe()
        # Blocked until the signal would end the api: our handler would only record it there.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        api_pid = os.fork()
        if api_pid == 0:
            ours.close()
            trace.write_end()
            _be_api(config, uid, theirs, listeners, database, monitor, held, meter)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        theirs.close()
        trace.read_end()
        for listener in (*listeners, *([monitor] if monitor else [])):
            listener.close()
        try:
            resources = functools.partial(Resources, config, hierarchy, tied=private)
            api = Api(api_pid, ours, trace)
            reread = functools.partial(_read_within_host, read_again, meter)
            return _be_warden(resources, api, addresses, notify, reread, stop_signals)
        except BaseException:  # the loop, which collects the api, was not reached
            os.kill(api_pid, signal.SIGKILL)
            raise


def _read_within_host(read_again: Callable[[], Config], meter: TaskMeter) -> Config:
    """The configuration as it is now, with limits that the host can give now."""
    return within_host(with_gids(read_again()), meter.measure())


def _monitor(config: Config, stack: contextlib.ExitStack) -> socket.socket | None:
    """The listener for metrics and health checks. Raises ConfigError.

    Only one daemon of a host can have the default address. The others log that and have none.
    """
    if not config.metrics:
        return None
    try:
        address = parse(config.metrics, "metrics")
        listener = stack.enter_context(_listener(address, "metrics"))
    except ConfigError as error:
        if config.metrics != METRICS:
            raise
        log.event("metrics.off", logging.WARNING, reason=str(error))
        return None
    log.event("metrics.on", address=_address(listener))
    return listener


def _stop_if_missing(held: tuple[Guarantee, ...]) -> None:
    """Log the guarantees that this host does not hold. Raises ConfigError when one is required."""
    guarantees.stop_if_missing(held)
    for one in held:
        if not one.held:
            log.event(
                "guarantee.missing", logging.WARNING, name=one.name, reason=guarantees.describe(one)
            )


def _be_api(
    config: Config,
    uid: int,
    sock: socket.socket,
    listeners: list[socket.socket],
    database: str,
    monitor: socket.socket | None,
    held: tuple[Guarantee, ...],
    meter: TaskMeter,
) -> NoReturn:
    """Become the unprivileged half. Root ends here."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    status = 1
    try:
        open_imports(uid, f"{config.state_dir}/view")
        seccomp.apply_quiet(daemon_filters.of_api())
        identity.apply(uid, uid)
        identity.verify(uid, uid)
        seccomp.verify()
        # After the change of uid, which would clear it (prctl(2)).
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGTERM)
        os.chdir("/")
        syscalls.set_process_title("sandboxd: api")
        log.became("api")
        # Third-party code is loaded only now, without root.
        from ..api import server

        server.run(config, sock, listeners, database, monitor, held, meter)
        status = 0
    except SandboxdError as error:
        print(f"sandboxd: {error}", file=sys.stderr, flush=True)
    except Exception:  # a bug: the warden sees the status only, so the log must have the rest
        logging.getLogger(__name__).exception("the api has failed")
    finally:
        os._exit(status)


def _be_warden(
    make: Callable[[], Resources],
    api: Api,
    addresses: list[str],
    notify: systemd.Notify,
    read_again: Callable[[], Config],
    stop_signals: list[int],
) -> int:
    """Become the privileged half."""
    syscalls.set_process_title("sandboxd: warden")
    # The warden becomes the parent of the children of a killed shim: the first process of a
    # container may collect them late or never, and a slot waits for that.
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    # slave: later mounts of the host are seen here, our mounts are not seen there.
    own_mounts(propagation=syscalls.MS_SLAVE)
    resources = make()
    keyed = {f"unix:{path}" for path in keyed_paths(resources.config.listen)}
    resources.workspaces.listeners = tuple(one for one in addresses if one not in keyed)
    gc.freeze()  # forks share these pages as long as no reference count in them changes
    ready = f"sandboxd: ready on {', '.join(addresses)}"
    announce = functools.partial(print, ready, flush=True)
    loop = WardenLoop(resources, api, announce, notify, read_again)
    return loop.serve(stop_signals)


def _listeners(config: Config, stack: contextlib.ExitStack) -> list[socket.socket]:
    """The sockets of the service manager, and one for each other address of the configuration.

    Raises ConfigError.
    """
    addresses = [parse(text) for text in config.listen]
    passed = [stack.enter_context(sock) for sock in systemd.passed_sockets()]
    for sock in passed:
        _check_passed(config, sock)
    open_already = {_address(sock) for sock in passed}
    others = [address for address in addresses if address.bare not in open_already]
    return passed + [stack.enter_context(_listener(address, "listen")) for address in others]


def _check_passed(config: Config, sock: socket.socket) -> None:
    """Hold a socket of the service manager to the rules for our own. Raises ConfigError."""
    address = _address(sock)
    if sock.family not in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6) or not sock.getsockopt(
        socket.SOL_SOCKET, socket.SO_ACCEPTCONN
    ):
        raise ConfigError(f"{address}, passed by the service manager, is no listening socket")
    if sock.family != socket.AF_UNIX:
        _check_host(config, parse(address))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # see _listen_tcp
        return
    path = address.removeprefix("unix:")
    if path not in keyed_paths(config.listen) and os.stat(path).st_mode & 0o006:
        raise ConfigError(
            f"{address} is open to everybody on this host, and its clients need not sign; give the "
            "socket unit SocketMode=0600, or 0660 and a SocketGroup="
        )


def _address(listener: socket.socket) -> str:
    """The address as in --listen, with the port that the kernel chose for port 0."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"unix:{name}"
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"


def _check_listen(config: Config) -> None:
    """Without keys only the mode of a Unix socket, or the loopback, keeps strangers out."""
    for address in map(parse, config.listen):
        if not address.path:
            _check_host(config, address)


def _check_host(config: Config, address: ListenAddress) -> None:
    if config.auth == "none" and address.host not in ("127.0.0.1", "::1", "localhost"):
        raise ConfigError(
            f'auth "none" is refused with the address {address.bare} in listen: anybody who '
            'reaches it could use it; set auth to "keypair" and create keys by "sandboxd keypair '
            'create", or listen on 127.0.0.1, ::1 or unix:PATH'
        )


@contextlib.contextmanager
def _listener(address: ListenAddress, key: str) -> Iterator[socket.socket]:
    """A listening socket; a Unix socket's file is removed at the end. `key` of the configuration
    has the address, or the option of that name."""
    if not address.path:
        yield _listen_tcp(address, key)
        return
    sock = _listen_unix(address, key)
    mine = os.stat(address.path).st_ino
    try:
        yield sock
    finally:
        with contextlib.suppress(OSError):
            if os.stat(address.path).st_ino == mine:
                os.unlink(address.path)


def _listen_tcp(address: ListenAddress, key: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        sock = socket.create_server((address.host, address.port), family=family, backlog=512)
        # Connections inherit it. asyncio would set it, but only where the protocol is not 0;
        # without it an answer in two writes waits 40 ms for the client's delayed ACK.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock
    except OSError as error:
        raise ConfigError(f"{key}: {address.bare}: {error.strerror}") from None


def _listen_unix(address: ListenAddress, key: str) -> socket.socket:
    """A socket that only root and the configured group may open: its clients need not sign."""
    path = address.path
    gid = gid_of(address.group, f"{key}: {address.bare}") if address.group else 0
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _answers(path):
            raise ConfigError(f"{key}: unix:{path}: another sandboxd is listening there")
        if os.path.lexists(path):
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                raise ConfigError(f"{key}: unix:{path}: a file that is no socket is there")
            os.unlink(path)
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        sock.bind(path)
        os.chown(path, 0, gid)
        os.chmod(path, 0o660 if address.group else 0o600)
        sock.listen(512)
    except OSError as error:
        sock.close()
        raise ConfigError(f"{key}: unix:{path}: {error.strerror}") from None
    return sock


def _answers(path: str) -> bool:
    """A process listens on the socket `path`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
        return True
