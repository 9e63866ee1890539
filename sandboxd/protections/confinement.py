"""The protections that shut a program in."""

from __future__ import annotations

from .protection import CONTAINER, HostGuarantee, Protection
from .remedies import Kernel


def _namespace(kind: str, meaning: str, short: str) -> HostGuarantee:
    """`short` is the kernel's name in user.max_*_namespaces and in CONFIG_*_NS."""
    option = {"mnt": "", "cgroup": "CONFIG_CGROUPS"}.get(short, f"CONFIG_{short.upper()}_NS")
    kernel = Kernel(option=option, sysctl=f"user.max_{short}_namespaces")
    return HostGuarantee("isolation", f"{kind}-namespace", meaning, CONTAINER, kernel)


PROTECTIONS = (
    Protection(
        "namespaces",
        "mount, pid, network, IPC, UTS, cgroup; each is compared with the warden's",
        ("jail/namespaces.py",),
        (
            _namespace("mount", "a run has a view of files of its own", "mnt"),
            _namespace("pid", "a run sees and signals its own processes only", "pid"),
            _namespace("network", "a run has a network of its own", "net"),
            _namespace("ipc", "a run has System V and POSIX IPC of its own", "ipc"),
            _namespace("uts", "a run has a host name of its own", "uts"),
            _namespace("cgroup", "a run does not see the host's cgroups", "cgroup"),
        ),
        attacks=("namespaces", "see-processes", "signal-host", "cgroup-files", "shared-objects"),
        tests=("tests/escape/test_layers.py::test_layer_that_is_skipped_stops_the_run",
               "tests/escape/test_processes.py"),
        remains="the kernel's clock and load are seen",
    ),
    Protection(
        "network",
        "a loopback of its own, no route, no socket of the host, no abstract one",
        ("jail/network.py",),
        (
            HostGuarantee(
                "isolation", "loopback", "a loopback of its own, and no other way out", CONTAINER
            ),
            HostGuarantee(
                "host", "packet-copies",
                "no program has the kernel keep copies of packets, which no cgroup counts",
                "sysctl net.core.tstamp_allow_data=0, and the same in /etc/sysctl.d",
            ),
        ),
        attacks=("loopback-tcp", "loopback-udp", "abstract-socket", "way-out", "interfaces",
                 "network-settings", "raw-sockets"),
        tests=("tests/escape/test_processes.py::test_server_on_the_runs_own_loopback_is_reached",),
        remains="idle tunnel devices, on some kernels",
    ),
    Protection(
        "no broker",
        "a run has a listening socket for the broker only if its session has a network profile; "
        "nothing else in its network namespace differs",
        ("shim/broker_socket.py", "shim/main.py"),
        attacks=("proxy-port",),
        tests=("tests/e2e/network/test_hosts.py::"
               "test_session_without_a_profile_has_no_proxy_and_no_way",
               "tests/e2e/network/test_hosts.py::test_socket_of_the_broker_is_the_only_change"),
    ),
    Protection(
        "empty root",
        "a tmpfs with read-only clones of named parts and a copy of public files of /etc; every "
        "mount is compared with the plan, both ways",
        ("jail/rootfs.py", "jail/mounts.py", "jail/tree.py", "jail/shown_files.py",
         "jail/public_files.py", "jail/secret_names.py"),
        (
            HostGuarantee(
                "isolation", "sealed-mounts", "the host's files are shown read-only, by descriptor",
                CONTAINER, Kernel((5, 12)),
            ),
        ),
        attacks=("read-accounts", "read-host-file", "write-host-file", "write-system",
                 "mounts-shown", "leave-root", "host-sockets", "cgroup-files", "build-step",
                 "locks-and-leases"),
        tests=("tests/escape/test_files.py::test_mount_not_in_the_plan_stops_the_run",
               "tests/escape/test_files.py::test_each_mount_has_the_options_that_bound_it",
               "tests/escape/test_host_secrets.py::"
               "test_search_of_the_whole_jail_finds_no_planted_secret"),
        remains="programs see which packages the host has",
    ),
    Protection(
        "overlays",
        "files of the host and of the copy have inodes of the run's own: watches, locks and "
        "leases do not cross, and nothing flushes the host's file system",
        ("jail/overlays.py", "jail/mounts.py"),
        (
            HostGuarantee(
                "isolation", "own-inodes",
                "watches and locks on shared files stay in their run",
                "load the module overlay (modprobe overlay; CONFIG_OVERLAY_FS); take directories "
                "that overlayfs refuses out of rootfs.paths",
            ),
        ),
        attacks=("watch-shared-files", "lock-shared-files"),
        tests=("tests/jail/test_overlays.py", "tests/escape/test_shared_files.py"),
        remains="memory that caches a file is shared, and its timing tells; times and sizes of the "
        "host's files and free space of its disks are seen; a mount on a single file is "
        "bound as it is",
    ),
    Protection(
        "own cgroup shown",
        "the directories of the run's own cgroup alone, read-only, below /sys/fs/cgroup; the "
        "number of CPUs in plain files; no sysfs",
        ("jail/rootfs.py",),
        attacks=("cgroup-files", "mounts-shown", "write-system"),
        tests=("tests/jail/test_share.py", "tests/e2e/test_share.py"),
        remains="programs read their own limits, usage and stalls; v1 shows the CPUs of the host "
        "that the daemon may use (cpuset)",
    ),
    Protection(
        "/dev",
        "six fresh nodes, a devpts of its own with a bound, a shm of a fixed size; IPC objects are "
        "cleared between steps",
        ("jail/rootfs.py", "shim/ipc.py"),
        (
            HostGuarantee(
                "isolation", "devices", "the six harmless devices can be made",
                "in a container, allow mknod and the devices 1:3 1:5 1:7 1:8 1:9 5:0",
            ),
        ),
        attacks=("device-nodes", "devices-shown", "pseudo-terminals", "shared-memory"),
        tests=("tests/escape/test_terminal.py", "tests/escape/test_ipc.py"),
    ),
    Protection(
        "/proc",
        "the run's own processes only (hidepid), read-only, with masks and a boot_id of the jail",
        ("jail/rootfs.py",),
        (
            HostGuarantee(
                "isolation", "own-proc", "/proc shows a run its own processes only", CONTAINER
            ),
        ),
        attacks=("see-processes", "proc-secrets", "proc-settings"),
        tests=("tests/escape/test_files.py::test_each_mount_has_the_options_that_bound_it",),
        remains="cpuinfo, meminfo, stat, loadavg, uptime, net/sockstat and net/softnet_stat show "
        "the machine and its load",
    ),
    Protection(
        "identity",
        "a uid and gid of the session's own, no groups; init is not dumpable",
        ("jail/identity.py",),
        (
            HostGuarantee(
                "isolation", "privileges", "uid, groups and capabilities are given up for good",
                "give it CAP_SETUID, CAP_SETGID and CAP_SETPCAP: run it as root",
            ),
        ),
        attacks=("identity", "regain-root", "seen-from-host", "kill-init", "priority",
                 "dumpable-init", "device-nodes", "write-system", "proc-settings", "build-step",
                 "network-settings", "raw-sockets"),
        tests=("tests/escape/test_identity.py",),
    ),
    Protection(
        "capabilities",
        "the five sets are empty, securebits are locked",
        ("jail/identity.py",),
        attacks=("capabilities", "securebits", "seen-from-host", "build-step"),
        tests=("tests/escape/test_layers.py::test_layer_that_is_skipped_stops_the_run",),
    ),
    Protection(
        "no_new_privs",
        "set-user-ID files give nothing",
        ("jail/identity.py",),
        (
            HostGuarantee(
                "isolation", "no-new-privs", "no program can give privileges back",
                CONTAINER, Kernel((3, 5)),
            ),
        ),
        attacks=("no-new-privs", "set-user-id", "seen-from-host", "filter-on", "build-step"),
        tests=("tests/escape/test_layers.py::test_layer_that_is_skipped_stops_the_run",),
    ),
    Protection(
        "seccomp",
        "a list of what is allowed; the rest is answered ENOSYS or EPERM; no huge pages; sockets "
        "of four families and four protocols, of netlink only the list of interfaces; nothing that "
        "would load a driver; no filters of their own, for whose memory the host has one bound; "
        "no options, and a bounded number of memberships, netlink sockets and large attributes, "
        "whose memory no cgroup counts; no wait for more than 2,047 files; "
        "init cannot be changed; sync does nothing; i386 killed, x32 ENOSYS; arguments by 32 bits",
        ("jail/seccomp.py", "jail/profile.py", "jail/uncounted_memory.py", "shim/denied_calls.py",
         "shim/bounded_calls.py"),
        (
            HostGuarantee(
                "isolation", "seccomp", "system calls are filtered",
                f"install libseccomp2; {CONTAINER}", Kernel((5, 0), "CONFIG_SECCOMP_FILTER"),
            ),
        ),
        attacks=("filter-on", "mount", "new-mount-api", "unshare", "clone-namespaces", "io-uring",
                 "attach-filters", "uncounted-memory", "uncounted-tables", "bpf", "perf",
                 "keyrings", "userfaultfd", "modules", "reboot", "swap-and-quota", "clock",
                 "ports", "kernel-log", "watch-files", "move-memory",
                 "terminal-injection", "other-architecture", "x32", "unknown-calls",
                 "personality", "leave-root", "read-other-memory", "raw-sockets",
                 "network-settings", "socket-families", "netlink", "vsock", "kernel-crypto"),
        tests=("tests/jail/test_seccomp.py", "tests/escape/test_seccomp.py",
               "tests/shim/test_bounded_calls.py"),
        remains="allowed calls reach the kernel; netlink sockets that are handed on to other runs "
        "of the session",
    ),
    Protection(
        "sessions of processes",
        "setsid, no terminal of the host, three descriptors, default signals, "
        "an environment without the daemon's variables",
        ("shim/init.py", "shim/run.py"),
        attacks=("descriptors", "environment", "terminal", "signals", "leave-root"),
        tests=("tests/escape/test_identity.py", "tests/escape/test_terminal.py"),
    ),
)  # fmt: skip
