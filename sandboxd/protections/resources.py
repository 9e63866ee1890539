"""The protections of shared resources: memory, processes, disk and time."""

from __future__ import annotations

from .protection import HostGuarantee, Protection
from .remedies import Kernel

_CGROUP = (
    "give the daemon a cgroup with this controller: cgroup v2 with Delegate=yes (the unit has it), "
    "or v1 with memory, pids, cpu and cpuacct mounted"
)


PROTECTIONS = (
    Protection(
        "own file system",
        "an image of fixed size and number of files on a loop device, nosuid, nodev",
        ("warden/slots/images.py", "warden/slots/scratch.py"),
        (
            HostGuarantee(
                "files", "scratch", "a session's disk has a fixed size",
                'load the module loop and install e2fsprogs, or set scratch.kind to "tmpfs"',
            ),
        ),
        attacks=("other-session", "disk", "inodes", "deep-tree", "unremovable-files"),
        tests=("tests/escape/test_files.py", "tests/escape/test_limits.py"),
        remains="ext4 in the kernel reads an image that only the kernel wrote",
    ),
    Protection(
        "deletion",
        "the file system of a session that is over is shut down, so that its dirty pages are not "
        "written before they are removed: a deletion does not keep the disk from others",
        ("warden/slots/images.py", "warden/slots/reclaim.py"),
        tests=("tests/warden/slots/test_images.py", "tests/e2e/test_deletion.py"),
        remains="pages of virtual folders are written, since they stay",
    ),
    Protection(
        "rlimits",
        "core 0; finite file size, descriptors, processes, locked memory, signals; "
        "soft and hard alike",
        ("jail/rlimits.py",),
        (
            HostGuarantee(
                "isolation", "rlimits", "limits of each process cannot be raised",
                "raise the limits of the daemon itself (LimitNOFILE= and the like)",
            ),
        ),
        attacks=("raise-limits", "core-file", "file-size", "open-files", "locked-memory",
                 "queued-signals"),
        tests=("tests/jail/test_rlimits.py", "tests/escape/test_limits.py"),
    ),
    Protection(
        "cgroup",
        "memory without swap, buffers of sockets, processes, CPU; killed as a whole; a group above "
        "holds the sum of memory and CPU of a session's runs",
        ("jail/cgroup.py", "host/cgroupfs.py", "warden/runs/cgroups.py",
         "warden/runs/slot_group.py"),
        (
            HostGuarantee(
                "limits", "cgroup-memory", "memory of all processes of a run is limited", _CGROUP
            ),
            HostGuarantee("limits", "cgroup-pids", "the number of processes is limited", _CGROUP),
            HostGuarantee("limits", "cgroup-cpu", "the share of CPU is limited", _CGROUP),
            HostGuarantee(
                "limits", "no-swap", "memory is not evaded by swap",
                "boot with swapaccount=1, or turn swap off (swapoff -a)",
            ),
            HostGuarantee(
                "limits", "cgroup-kill", "all processes of a run end at once", _CGROUP
            ),
            HostGuarantee(
                "limits", "peaks", "the most that a step used is known",
                _CGROUP, Kernel((6, 11)), "usage says 0 without it",
            ),
            HostGuarantee(
                "host", "delegation", "the cgroups are the daemon's to change",
                "run it with the units of systemd/, and name their configuration with --config",
            ),
        ),
        attacks=("fork-bomb", "threads", "memory", "memory-of-many", "shared-memory", "system-v",
                 "daemon", "stopped-process", "fork-storm"),
        tests=("tests/escape/test_cgroup.py", "tests/escape/test_limits.py",
               "tests/escape/test_processes.py", "tests/warden/runs/test_slot_group.py",
               "tests/e2e/test_session_memory.py"),
        remains="disk and memory bandwidth are shared; tasks have no bound of a session's sum but "
        "RLIMIT_NPROC; cgroup v1 without `memory.kmem.tcp` does not count buffers of sockets",
    ),
    Protection(
        "tasks promised",
        "a run begins only when its limit of processes and threads fits into those that the "
        "kernel and the daemon's cgroup still allow, of one owner and of all; the rest is for the "
        "host, the daemon and its file helpers",
        ("api/admission/admission.py", "api/admission/fair_queue.py", "host/tasks.py"),
        tests=("tests/api/test_fair_queue.py", "tests/api/test_task_admission.py",
               "tests/host/test_tasks.py", "tests/e2e/test_tasks.py"),
        remains="processes of the host that begin later; /readyz says when a fork fails",
    ),
    Protection(
        "open files",
        "the limit of descriptors follows fs.file-max: all processes of a run together open at "
        "most half of what the host allows to all",
        ("model.py", "warden/host_limits.py", "warden/requests/run_requests.py"),
        (
            HostGuarantee(
                "host", "open-files", "the host has open files for all runs",
                "raise fs.file-max (sysctl)",
            ),
        ),
        attacks=("files-of-all",),
        tests=("tests/test_open_files.py", "tests/e2e/test_open_files.py"),
        remains="files that are only mapped count for fs.file-max and not as descriptors; many "
        "runs together reach a low one, and doctor says so",
    ),
    Protection(
        "locks on files",
        "a run that holds more than 100,000 locks on files (fcntl, flock), or 64 on the inode that "
        "all eventfds and epolls of the host share, is ended: no cgroup counts their memory; locks "
        "of open files (F_OFD_SETLK) are bounded by the shim, to a sixteenth beside programs that "
        "could keep them",
        ("warden/runs/lock_watch.py", "warden/runs/lock_count.py", "warden/runs/turns.py",
         "warden/runs/unclear_runs.py", "warden/runs/cpu_hold.py", "jail/uncounted_memory.py",
         "shim/bounded_calls.py"),
        (
            HostGuarantee(
                "limits", "file-locks", "the locks of a run on files are counted",
                "give the daemon the capability CAP_SYS_PTRACE (the unit has it)",
            ),
        ),
        attacks=("file-locks", "locks-on-eventfds"),
        tests=("tests/warden/runs/test_lock_watch.py", "tests/warden/runs/test_lock_count.py",
               "tests/warden/runs/test_unclear_runs.py", "tests/warden/runs/test_turns.py",
               "tests/e2e/test_locks.py", "tests/e2e/test_locks_handed_on.py",
               "tests/shim/test_bounded_calls.py", "tests/shim/test_denied_calls.py",
               "tests/warden/runs/test_memory_handoff.py"),
        remains="until they are counted, for some 0.7 s, all runs together make some 200 MB of "
        "locks a second with each CPU of the host, and one with very many descriptors some 2 MB "
        "a second for up to some five seconds more; while no daemon is there, nobody counts; each "
        "run beside a terminal, or with a folder or workspace beside another such run of its "
        "owner, can leave 0.8 MB of locks there",
    ),
    Protection(
        "connections in no file",
        "a run of which 32 MiB of TCP connections wait to be accepted, or that has an eighth of "
        "the connections that the host lets go on after they were closed, is ended: no cgroup "
        "counts them; those in TIME_WAIT are bounded",
        ("warden/runs/connection_watch.py", "warden/runs/connection_count.py",
         "warden/runs/socket_networks.py",
         "host/tcp_sockets.py", "jail/network.py", "jail/uncounted_memory.py"),
        (
            HostGuarantee(
                "limits", "connections", "the connections of a run that are in no file are counted",
                "use a kernel with CONFIG_INET_DIAG; modprobe tcp_diag",
            ),
        ),
        attacks=("unaccepted-connections",),
        tests=("tests/warden/runs/test_connection_count.py",
               "tests/warden/runs/test_connection_watch.py", "tests/e2e/test_connections.py"),
        remains="until a run is ended, for some 0.7 s, it makes some hundred MB, and one with very "
        "many descriptors some 7 MB a second for some seconds more; while no "
        "daemon is there, nobody counts; listening sockets of a run that is over, while they are "
        "on their way in another socket",
    ),
    Protection(
        "memory handed on",
        "a run's group stays while runs that may hold its files in memory go on; "
        "those that hold them for seconds are ended",
        ("warden/runs/memory_handoff.py",),
        tests=("tests/e2e/test_memory_handoff.py", "tests/e2e/test_workspace_memory.py",
               "tests/warden/runs/test_memory_handoff.py"),
        remains="buffers of pipes and sockets that are handed on, memory that goes to a workspace "
        "of another user, which is inside of the own one, and of each run as much memory as the "
        "tmpfs of its workspace has in files: the bound of the group of all runs (MemoryMax); "
        "processes of the host that take memory in a workspace",
    ),
    Protection(
        "deadlines",
        "wall and CPU time are the shim's, outside of what a program can stop",
        ("shim/deadlines.py",),
        attacks=("time", "stopped-clock"),
        tests=("tests/shim/test_deadlines.py", "tests/escape/test_limits.py"),
    ),
    Protection(
        "output",
        "a file of fixed size; a flood, of bytes or of pieces, is read slowly, and its writer "
        "pays for it; a step ends with its first process, also when others hold its output",
        ("spool.py", "shim/console.py"),
        attacks=("output", "holds-output"),
        tests=("tests/escape/test_shim.py", "tests/test_spool.py"),
    ),
)  # fmt: skip
