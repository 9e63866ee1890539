"""Attacks on processes: to have rights, to see or signal processes that are not the run's."""

from __future__ import annotations

from ..attack import of

_attack = of("processes")

ATTACKS = (
    _attack("identity", "be root, or in one of its groups", """
        if 0 in (*os.getresuid(), *os.getresgid(), *os.getgroups()):
            broken(f"ids {os.getresuid()} {os.getresgid()} {os.getgroups()}")
        if len(set(status("Uid"))) != 1 or len(set(status("Gid"))) != 1:
            broken("the four ids differ")
        """),
    _attack("capabilities", "have a capability in one of the five sets", """
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            if int(status(name)[0], 16):
                broken(f"{name} is {status(name)[0]}")
        """),
    _attack("regain-root", "take root back", """
        for what, act in (("setuid", lambda: os.setuid(0)), ("setgid", lambda: os.setgid(0)),
                          ("setresuid", lambda: os.setresuid(0, 0, 0)),
                          ("setresgid", lambda: os.setresgid(0, 0, 0)),
                          ("setgroups", lambda: os.setgroups([0])),
                          ("another uid", lambda: os.setresuid(65534, 65534, 65534))):
            refused(what, act, errno.EPERM)
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        data = (ctypes.c_uint32 * 6)(*[0xFFFFFFFF, 0xFFFFFFFF, 0] * 2)
        if libc.capset(header, data) == 0:
            broken("capset gave capabilities")
        if libc.prctl(47, 2, 21, 0, 0) == 0:
            broken("an ambient capability was raised")
        """),
    _attack("no-new-privs", "let an exec give rights", """
        if libc.prctl(39, 0, 0, 0, 0) != 1:
            broken("no_new_privs is not set")
        if libc.prctl(38, 0, 0, 0, 0) == 0:
            broken("no_new_privs was taken back")
        """),
    _attack("securebits", "let a later root bring its capabilities along", """
        bits = libc.prctl(27, 0, 0, 0, 0)
        if bits & 0b11 != 0b11 or not bits & 0b1000:
            broken(f"securebits are {bits:b}")
        if libc.prctl(28, 0, 0, 0, 0) == 0:
            broken("securebits were changed")
        """),
    _attack("namespaces", "share a namespace with the host", "wait_for_host()", looks="namespaces"),
    _attack("seen-from-host", "have rights that the host sees from outside", "wait_for_host()",
            looks="identity"),
    _attack("see-processes", "see the processes of the host", """
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        if len(pids) > 8:
            broken(f"{len(pids)} processes are seen")
        if os.path.exists(f"/proc/{CANARY['pid']}/status"):
            broken("a process of the host is seen")
        if os.path.isdir("/proc/1"):
            refused("the environment of pid 1", lambda: open("/proc/1/environ", "rb").read())
            refused("the memory of pid 1", lambda: open("/proc/1/mem", "rb").read(1))
        for pid in pids:
            try:
                words = open(f"/proc/{pid}/cmdline", "rb").read()
            except OSError:
                continue
            if pid != os.getpid() and any(w in words for w in (b"warden", b"sandboxd", b"systemd")):
                broken(f"process {pid} is of the host")
        """),
    _attack("signal-host", "signal a process of the host", """
        for number in (0, signal.SIGCONT):
            refused("the canary was signalled", lambda: os.kill(CANARY["pid"], number))
        try:
            fd = os.pidfd_open(CANARY["pid"])
        except OSError:
            pass
        else:
            broken("a pidfd of the canary")
        """),
    _attack("kill-init", "kill the init of the run, and its shim", """
        if os.getuid() == 0:  # it could be the host's
            broken("this is root")
        else:
            for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM):
                try:
                    os.kill(1, number)
                except OSError:
                    pass
            time.sleep(0.1)  # a program that has killed init ends here
        """),
    _attack("read-other-memory", "read or trace another process", """
        filtered("ptrace", 16, 1, 0, 0)
        filtered("process_vm_readv", 1, 0, 0, 0, 0, 0)
        filtered("process_vm_writev", 1, 0, 0, 0, 0, 0)
        filtered("kcmp", 1, 1, 0, 0, 0)
        filtered("pidfd_getfd", -1, 0, 0)
        refused("init's memory", lambda: open("/proc/1/mem", "rb+").read(1))
        """),
    _attack("descriptors", "find a descriptor that the daemon has left open", """
        numbers = sorted(int(n) for n in os.listdir("/proc/self/fd"))[:-1]
        if numbers != [0, 1, 2]:
            broken(f"descriptors {numbers}")
        for number in range(3):
            mode = os.fstat(number).st_mode
            if stat.S_ISDIR(mode) or stat.S_ISSOCK(mode) or stat.S_ISBLK(mode):
                broken(f"descriptor {number} is no pipe")
        if os.getcwd() != "/home/work":
            broken(f"it begins in {os.getcwd()}")
        """),
    _attack("environment", "read the daemon's environment", """
        secret = ("SECRET", "TOKEN", "PASSW", "CREDENTIAL", "AWS_", "SUDO_", "SSH_", "XDG_",
                  "DBUS_", "NOTIFY_SOCKET", "LISTEN_", "JOURNAL_STREAM", "INVOCATION_ID", "LD_",
                  "SANDBOXD_")
        more = [name for name in os.environ if any(word in name for word in secret)]
        if more:
            broken(f"variables {sorted(more)}")
        if "root" in os.environ["HOME"] + os.environ["PATH"] or os.environ["USER"] == "root":
            broken("the variables are root's")
        """),
    _attack("raise-limits", "raise a limit of its own", """
        import resource
        for name in ("CORE", "FSIZE", "NOFILE", "NPROC", "MEMLOCK", "MSGQUEUE", "RTPRIO", "NICE"):
            kind = getattr(resource, f"RLIMIT_{name}", None) or {"RTPRIO": 14, "NICE": 13}[name]
            soft, hard = resource.getrlimit(kind)
            if hard == resource.RLIM_INFINITY:
                broken(f"{name} has no limit")
                continue
            try:
                resource.setrlimit(kind, (hard + 1, hard + 1))
            except (ValueError, OSError):
                continue
            broken(f"{name} was raised")
        """),
    _attack("core-file", "leave a core file, or have the host's helper make one", """
        import resource
        if resource.getrlimit(resource.RLIMIT_CORE) != (0, 0):
            broken("core files have no limit of 0")
        if os.WCOREDUMP(in_child(lambda: os.abort())):
            broken("a core was dumped")
        """),
    _attack("priority", "run before everybody else", """
        better = os.getpriority(os.PRIO_PROCESS, 0) - 1
        refused("a better nice value", lambda: os.setpriority(os.PRIO_PROCESS, 0, better))
        refused("the scheduler FIFO",
                lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)))
        try:
            open("/proc/self/oom_score_adj", "w").write("-1000")
        except OSError:
            pass
        else:
            broken("it spared itself from the out-of-memory killer")
        """),
    _attack("terminal", "have a terminal, or be in the daemon's session", """
        refused("a controlling terminal", lambda: os.open("/dev/tty", os.O_RDWR))
        if os.getsid(0) not in (os.getpid(), os.getppid()) or os.getsid(0) == 0:
            broken(f"it is in the session {os.getsid(0)}")
        """),
    _attack("dumpable-init", "take over the init of the run by /proc", """
        for name in ("root", "cwd", "exe", "ns/mnt"):
            refused(f"/proc/1/{name}", lambda: os.readlink(f"/proc/1/{name}"))
        refused("/proc/1/fd", lambda: os.listdir("/proc/1/fd"))
        refused("/proc/1/maps", lambda: open("/proc/1/maps").read())
        """),
    _attack("signals", "start with signals blocked or ignored, so that it cannot be ended", """
        blocked = int(status("SigBlk")[0], 16)
        own = 1 << 12 | 1 << 24 | 3 << 31  # Python's, and those that libc keeps for itself
        ignored = int(status("SigIgn")[0], 16) & ~own
        if blocked or ignored:
            broken(f"blocked {blocked:x}, ignored {ignored:x}")
        """),
)  # fmt: skip
