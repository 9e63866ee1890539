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
import sys
from collections.abc import Callable
from typing import NoReturn

from .. import crash, log, systemd
from ..api.start import ApiStart
from ..config.listen_address import keyed_paths
from ..config.settings import Config
from ..errors import SandboxdError
from ..host import descriptors
from ..host.tasks import TaskMeter
from ..jail import daemon_filters, identity, seccomp, syscalls
from ..jail.chroot import own_mounts
from ..model import Guarantee
from . import listeners, runtime_directory, uid_lease
from .code_view import open_imports
from .doctor import guarantees
from .doctor.checks import api_uid, check
from .host_groups import with_gids
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
    descriptors.allow_most()  # some for each session
    uid = api_uid(config)
    check(config, uid)
    listeners.check(config)
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
        results = guarantees.find(config, uid, hierarchy)
        if stop_signals:  # the signal may have ended the trials, too, which then prove nothing
            return 0
        _stop_if_missing(results)
        meter = TaskMeter.of_daemon(config.cgroup, hierarchy.tasks)
        stack.callback(meter.close)
        config = within_host(config, meter.measure())
        sockets = listeners.open_all(config, stack)
        monitor = listeners.open_monitor(config, stack)
        addresses = [listeners.address_of(sock) for sock in sockets]
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        trace = crash.TracePipe()
        # Blocked until the signal would end the api: our handler would only record it there.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        api_pid = os.fork()
        if api_pid == 0:
            ours.close()
            trace.write_end()
            _be_api(uid, ApiStart(config, theirs, sockets, database, monitor, results, meter))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        theirs.close()
        trace.read_end()
        for sock in (*sockets, *([monitor] if monitor else [])):
            sock.close()
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


def _stop_if_missing(results: tuple[Guarantee, ...]) -> None:
    """Log the guarantees that this host does not hold. Raises ConfigError when one is required."""
    guarantees.stop_if_missing(results)
    for one in results:
        if not one.held:
            log.event(
                "guarantee.missing", logging.WARNING, name=one.name, reason=guarantees.describe(one)
            )


def _be_api(uid: int, start: ApiStart) -> NoReturn:
    """Become the unprivileged half. Root ends here."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    status = 1
    try:
        open_imports(uid, f"{start.config.state_dir}/view")
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

        server.run(start)
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
