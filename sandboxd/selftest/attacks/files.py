"""Attacks on files: to read or write what is not the session's."""

from __future__ import annotations

from ..attack import of

_attack = of("files")

ATTACKS = (
    _attack("read-accounts", "read the host's passwords and keys", """
        for path in ("/etc/shadow", "/etc/gshadow", "/etc/sudoers", "/etc/ssh/ssh_host_ed25519_key",
                     "/root/.ssh/id_rsa", "/root/.bashrc", "/etc/machine-id", "/var/log/syslog"):
            refused(path, lambda: open(path).read())
        if any(line.split(":")[2] not in ("0", "65534", str(os.getuid())) for line in
               open("/etc/passwd")):
            broken("/etc/passwd has accounts of the host")
        """),
    _attack("read-host-file", "read a file of the host that everybody may read", """
        import hashlib
        ways = ["", "/..", "/proc/1/root", "/proc/self/root", "/proc/self/cwd/../../../..",
                "/proc/1/cwd/../..", "/home/work/../../.."]
        ways += [f"/proc/self/fd/{n}/../../../.." for n in range(16)]
        ways += [f"/proc/{pid}/root" for pid in os.listdir("/proc") if pid.isdigit()]
        for way in ways:
            try:
                text = open(way + CANARY["path"], "rb").read()
            except OSError:
                continue
            if hashlib.sha256(text).hexdigest() == CANARY["sha256"]:
                broken(f"read it as {way}{CANARY['path']}")
        """),
    _attack("write-host-file", "write to a file of the host that everybody may write", """
        for way in ("", "/proc/1/root", "/proc/self/root", "/.."):
            refused(way + CANARY["path"], lambda: open(way + CANARY["path"], "r+").write("x"))
        """),
    _attack("write-system", "leave files outside of the three places for them", """
        for place in ("/", "/aliases", "/bin", "/dev", "/etc", "/home", "/proc", "/root", "/run",
                      "/sys", "/usr", "/usr/bin", "/usr/lib", "/var"):
            path = f"{place}/sandboxd-selftest".replace("//", "/")
            refused(f"made {path}", lambda: os.close(os.open(path, os.O_CREAT | os.O_WRONLY)))
            refused("removed it", lambda: os.unlink(path))
            refused(f"made the directory {path}", lambda: os.mkdir(path))
            refused("removed it", lambda: os.rmdir(path))
        for path in ("/usr/bin/env", "/etc/passwd", "/etc/hosts"):
            refused(f"opened {path} for writing", lambda: open(path, "r+"))
            refused(f"changed the mode of {path}",
                    lambda: os.chmod(path, stat.S_IMODE(os.stat(path).st_mode)))
        root = os.lstat("/").st_dev
        for count, (top, directories, files) in enumerate(os.walk("/")):
            if count > 4096:
                broken("the root is larger than that of a run")
                break
            here = [f"{top}/{name}" for name in directories]
            directories[:] = [os.path.basename(p) for p in here if os.lstat(p).st_dev == root]
            for path in (top, *(f"{top}/{name}" for name in files)):
                if os.access(path, os.W_OK) and not os.path.islink(path):
                    broken(f"{path} is writable")
        """),
    _attack("mounts-shown", "find a mount that is writable, or gives rights", """
        places = {"/home/work", "/tmp", "/dev/shm", "/dev/mqueue", "/dev/pts"}
        for line in open("/proc/self/mountinfo"):
            left, _, right = line.partition(" - ")
            words = left.split()
            point, options = words[4], words[5].split(",")
            if "nosuid" not in options:
                broken(f"{point} is mounted without nosuid")
            if "nodev" not in options and not (point + "/").startswith("/dev/"):
                broken(f"{point} has devices")
            if "rw" in options and point not in places and not point.startswith("/home/work/"):
                broken(f"{point} is writable")
            if any(word.startswith(("shared:", "master:")) for word in words[6:]):
                broken(f"{point} is shared with the host")
            shown = (point + "/").startswith(("/sys/fs/cgroup/", "/var/lib/"))
            if point.startswith(("/sys", "/run", "/var")) and not shown:
                broken(f"{point} is there")
        for path in ("/var/lib/dpkg/status", "/etc/shadow", "/etc/ssh"):
            if os.path.lexists(path):
                broken(f"{path} of the host is there")
        """),
    _attack("device-nodes", "make a device and open the host's disks with it", """
        for kind, major, minor in ((stat.S_IFBLK, 7, 0), (stat.S_IFBLK, 8, 0), (stat.S_IFCHR, 1, 1),
                                   (stat.S_IFCHR, 10, 237), (stat.S_IFCHR, 5, 1)):
            for place in ("/home/work", "/tmp", "/dev/shm", "/dev"):
                refused(f"made a device in {place}",
                        lambda: os.mknod(f"{place}/node", kind | 0o600, os.makedev(major, minor)))
        """),
    _attack("devices-shown", "use a device that is no harmless one", """
        harmless = {(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0)}
        for top, directories, files in os.walk("/dev"):
            for name in files:
                node = os.lstat(f"{top}/{name}")
                if stat.S_ISBLK(node.st_mode):
                    broken(f"{top}/{name} is a disk")
                elif stat.S_ISCHR(node.st_mode) and not top.startswith("/dev/pts"):
                    number = os.major(node.st_rdev), os.minor(node.st_rdev)
                    if number not in harmless:
                        broken(f"{top}/{name} is {number}")
        names = {"fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin",
                 "stdout", "tty", "urandom", "zero"}
        if more := sorted(set(os.listdir("/dev")) - names):
            broken(f"/dev has {more}")
        for name in ("mem", "kmsg", "port", "kvm", "fuse", "loop-control", "loop0", "vda", "sda",
                     "console"):
            refused(f"opened /dev/{name}", lambda: os.open(f"/dev/{name}", os.O_RDONLY))
        """),
    _attack("set-user-id", "become root by a set-user-ID file", """
        import shutil, subprocess
        shutil.copy(sys.executable, "me")
        os.chmod("me", 0o6755)
        ids = subprocess.run(["./me", "-I", "-c", "import os; print(os.geteuid(), os.getegid())"],
                             capture_output=True, text=True).stdout.split()
        if ids != [str(os.getuid()), str(os.getgid())]:
            broken(f"a set-user-ID file gave {ids}")
        for path in ("/usr/bin/su", "/usr/bin/mount", "/usr/bin/passwd", "/bin/su"):
            if os.path.exists(path):
                subprocess.run([path, "--help"], capture_output=True, stdin=subprocess.DEVNULL)
        if 0 in os.getresuid():
            broken("this is root")
        """),
    _attack("leave-root", "leave the root by a second chroot, a handle or a descriptor", """
        os.mkdir("inner")
        filtered("chroot", b"inner")
        filtered("pivot_root", b".", b".")
        filtered("open_by_handle_at", -1, 0, 0)
        for number in range(3, 64):
            refused(f"descriptor {number} is a way out", lambda: os.fchdir(number))
        os.chdir("/")
        for _ in range(64):
            os.chdir("..")
        if os.stat(".").st_ino != os.stat("/").st_ino:
            broken("'..' leads out of the root")
        if {"boot", "lost+found", "media", "mnt", "srv", "opt"} & set(os.listdir("/")):
            broken(f"the root is the host's: {sorted(os.listdir('/'))}")
        """),
    _attack("proc-settings", "change a setting of the kernel", """
        for path in ("sys/kernel/core_pattern", "sys/kernel/modprobe", "sysrq-trigger",
                     "sys/vm/overcommit_memory", "sys/kernel/hostname",
                     "sys/fs/binfmt_misc/register", "sys/net/ipv4/ip_forward",
                     "irq/default_smp_affinity", "1/oom_score_adj"):
            refused(f"opened /proc/{path} for writing",
                    lambda: os.open(f"/proc/{path}", os.O_WRONLY))
        """),
    _attack("proc-secrets", "read the kernel's memory, symbols, keys and counts", """
        for name in ("kallsyms", "kcore", "keys", "key-users", "kmsg", "sched_debug", "timer_list",
                     "vmallocinfo", "slabinfo", "pagetypeinfo", "modules", "iomem", "kpageflags",
                     "interrupts", "softirqs", "diskstats", "partitions", "locks", "cmdline",
                     "config.gz", "pressure/cpu", "pressure/io", "pressure/memory",
                     "vmstat", "schedstat", "swaps", "mdstat", "misc", "devices", "crypto",
                     "consoles", "execdomains", "bootconfig", "allocinfo", "lock_stat",
                     "sys/fs/file-nr", "sys/fs/inode-nr", "sys/fs/inode-state",
                     "sys/fs/dentry-state", "sys/fs/aio-nr", "sys/kernel/pty/nr"):
            try:
                text = open(f"/proc/{name}", "rb").read(4096)
            except OSError:
                continue
            shown = [word for word in text.split() if word.strip(b"0-: ")]
            if shown:
                broken(f"/proc/{name} can be read")
        rows = [line.split() for line in open("/proc/cgroups") if not line.startswith("#")]
        if any(row[2] not in ("0", "1") for row in rows):
            broken("/proc/cgroups tells how many groups there are")
        """),
    _attack("watch-shared-files", "watch which programs of the system others start", """
        import fcntl
        libc.inotify_add_watch.argtypes = [c_int, ctypes.c_char_p, c_ulong]
        watch = libc.inotify_init1(os.O_NONBLOCK)
        events = 0xfff  # IN_ALL_EVENTS
        shared = ("/usr/bin", "/usr/bin/env", "/usr/lib", "/etc", "/etc/ld.so.cache")
        watched = [p for p in shared if libc.inotify_add_watch(watch, p.encode(), events) >= 0]
        signals = []
        signal.signal(signal.SIGIO, lambda *_: signals.append("dnotify"))
        for path in ("/usr/bin", "/etc"):
            fd = os.open(path, os.O_RDONLY)
            try:
                fcntl.fcntl(fd, fcntl.F_NOTIFY, fcntl.DN_ACCESS | fcntl.DN_MODIFY |
                            fcntl.DN_CREATE | fcntl.DN_MULTISHOT)
            except OSError:
                pass
        try:
            os.read(watch, 65536)  # its own events
        except BlockingIOError:
            pass
        wait_for_host()
        try:
            os.read(watch, 65536)
            broken(f"inotify told of others at one of {watched}")
        except BlockingIOError:
            pass
        if signals:
            broken("dnotify told of others at /usr/bin or /etc")
        """, looks="shared-files"),
    _attack("lock-shared-files", "lock files of the system that others use", """
        import fcntl
        opened = []
        for path in ("/usr/bin", "/usr/bin/env", "/usr/lib", "/etc/ld.so.cache"):
            for act in (lambda fd: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB),
                        lambda fd: fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB),
                        lambda fd: fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)):
                try:
                    opened.append(os.open(path, os.O_RDONLY))
                    act(opened[-1])
                except OSError:
                    pass
        wait_for_host()
        """, looks="shared-files"),
    _attack("host-sockets", "speak with a service of the host", """
        for path in ("/run/docker.sock", "/var/run/docker.sock", "/run/containerd/containerd.sock",
                     "/run/systemd/private", "/run/systemd/notify", "/run/dbus/system_bus_socket",
                     "/run/sandboxd/api.sock", "/dev/log", "/run/systemd/journal/socket"):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(socket.AF_UNIX, kind) as sock:
                    refused(f"connected to {path}", lambda: sock.connect(path))
        if os.path.exists("/run") and os.listdir("/run"):
            broken(f"/run has {os.listdir('/run')}")
        """),
    _attack("cgroup-files", "reach the cgroups, to lift the limits or see other runs", """
        for path, names in (("/sys", {"devices", "fs"}), ("/sys/fs", {"cgroup"}),
                            ("/sys/devices", {"system"}), ("/sys/devices/system", {"cpu"})):
            if os.path.isdir(path) and (more := sorted(set(os.listdir(path)) - names)):
                broken(f"{path} has {more}")
        if os.path.exists("/sys/fs/cgroup/.." * 3 + "/proc/../sys/kernel"):
            broken("a way leads above the cgroups")
        for top, directories, files in os.walk("/sys/fs/cgroup"):
            if not files:
                continue  # v1: the directory of the controllers
            if directories:
                broken(f"{top} has other groups: {directories[:3]}")
            directories.clear()
            for name in {*files, "release_agent", "cgroup.kill", "memory.pressure", "x"}:
                refused(f"opened {top}/{name} for writing",
                        lambda: os.close(os.open(f"{top}/{name}", os.O_WRONLY)))
            for name in ("notify_on_release", "cgroup.procs", "tasks", "memory.max",
                         "memory.limit_in_bytes", "cpu.max", "cpu.cfs_quota_us"):
                refused(f"wrote {top}/{name}",
                        lambda: os.pwrite(os.open(f"{top}/{name}", os.O_RDWR), b"1", 0))
                refused(f"changed the mode of {top}/{name}",
                        lambda: os.chmod(f"{top}/{name}", 0o666))
            refused(f"made a group in {top}", lambda: os.mkdir(f"{top}/own"))
            refused("removed it", lambda: os.rmdir(f"{top}/own"))
            members = open(f"{top}/cgroup.procs").read().split()
            if "0" in members or not {str(os.getpid())} <= set(members):
                broken(f"{top} is not the group of this run: {members[:5]}")
        for line in open("/proc/self/mountinfo"):
            words = line.split()
            if words[4].startswith("/sys/") and words[3] != "/":
                broken(f"{words[4]} is a group above this run's: {words[3]}")
        for line in open("/proc/self/cgroup"):
            if line.strip().split(":", 2)[2] not in ("/", "/.."):
                broken(f"the path among the host's cgroups is shown: {line.strip()}")
                break
        """),
    _attack("other-session", "read what another session has left", """
        marker = "marker-of-another-session"
        for place in ("/home/work", "/tmp", "/dev/shm", "/var/tmp", "/run"):
            if os.path.lexists(f"{place}/{marker}"):
                broken(f"{place} is shared")
        for top, directories, files in os.walk("/proc"):
            break
        for pid in directories:
            if pid.isdigit() and os.path.exists(f"/proc/{pid}/root/tmp/{marker}"):
                broken(f"by process {pid}")
        """, before="""
        for place in ("/home/work", "/tmp", "/dev/shm"):
            open(f"{place}/marker-of-another-session", "w").close()
        wait_for_host()
        """),
    _attack("build-step", "be less confined in a build than in a run", """
        if 0 in (*os.getresuid(), *os.getresgid()):
            broken("a build is root")
        if status("Seccomp") != ["2"] or status("NoNewPrivs") != ["1"]:
            broken("a build is not filtered")
        sets = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
        if any(int(status(name)[0], 16) for name in sets):
            broken("a build has capabilities")
        refused(CANARY["path"], lambda: open(CANARY["path"]))
        """, step="build"),
)  # fmt: skip
