"""Attacks on shared resources: to use up memory, processes, disk and time.

Where the limit is missing, each attack ends by itself at a bound that a host survives.
"""

from __future__ import annotations

from ..attack import of

MEMORY = "96m"
"""The limit of sessions whose programs want more. The programs stop at 400 MiB."""


_attack = of("exhaustion")

_SMALL = {"mem": MEMORY}
_FEW = {"pids": 64}

ATTACKS = (
    _attack("fork-bomb", "make processes without end", """
        children = []
        try:
            while len(children) < 300:
                pid = os.fork()
                if pid == 0:
                    signal.alarm(10)
                    signal.pause()
                children.append(pid)
        except BlockingIOError:
            pass
        else:
            broken(f"{len(children)} processes")
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        """, resources=_FEW),
    _attack("threads", "make threads without end", """
        import threading
        threading.stack_size(65536)
        go, count = threading.Event(), 0
        try:
            while count < 300:
                threading.Thread(target=go.wait, daemon=True).start()
                count += 1
        except RuntimeError:
            pass
        else:
            broken(f"{count} threads")
        go.set()
        """, resources=_FEW),
    _attack("memory", "use memory without end", """
        blocks = []
        while len(blocks) < 400:
            blocks.append(b"x" * (1 << 20))
        broken(f"{len(blocks)} MiB in one process")
        """, ends="memory", resources=_SMALL),
    _attack("memory-of-many", "use memory without end in many processes", """
        children = []
        for _ in range(10):
            pid = os.fork()
            if pid == 0:
                memory = b"x" * (40 << 20)
                signal.alarm(5)
                signal.pause()
            children.append(pid)
        states = [os.waitpid(pid, 0)[1] for pid in children]
        if not any(os.WTERMSIG(s) == signal.SIGKILL for s in states if os.WIFSIGNALED(s)):
            broken("400 MiB in ten processes")
        os.kill(os.getpid(), signal.SIGKILL)
        """, ends="memory", resources=_SMALL),
    _attack("shared-memory", "use memory without end in /dev/shm", """
        size = 0
        try:
            with open("/dev/shm/large", "wb") as file:
                while size < 400 << 20:
                    size += file.write(b"x" * (1 << 20))
        except OSError:
            pass
        else:
            broken(f"{size >> 20} MiB in /dev/shm")
        """),
    _attack("system-v", "leave memory in System V segments, beyond the limit", """
        for _ in range(10):
            try:
                name = call("shmget", 0, 40 << 20, 0o1600)
            except OSError:
                break
            address = libc.shmat(name, None, 0)
            if address in (None, ctypes.c_void_p(-1).value):
                break
            ctypes.memset(address, 1, 40 << 20)
        else:
            broken("400 MiB in System V segments")
        os.kill(os.getpid(), signal.SIGKILL)
        """, ends="memory", resources=_SMALL),
    _attack("disk", "fill the host's disk", """
        most, free = 64 << 30, os.statvfs(".")
        if free.f_blocks * free.f_frsize > most:
            broken(f"the disk has {free.f_blocks * free.f_frsize >> 30} GiB")
        for place in (".", "/tmp"):
            try:
                for number in range(most >> 29):
                    with open(f"{place}/large{number}", "wb") as file:  # reserves, writes nothing
                        os.posix_fallocate(file.fileno(), 0, 1 << 29)
            except OSError:
                pass
            else:
                broken(f"64 GiB in {place}")
        """),
    _attack("inodes", "fill the host's disk with empty files", """
        if os.statvfs(".").f_files > 4 << 20:
            broken(f"the disk has room for {os.statvfs('.').f_files} files")
        os.mkdir("many")
        os.chdir("many")
        try:
            for number in range(80000):
                os.close(os.open(str(number), os.O_CREAT | os.O_WRONLY))
        except OSError:
            pass
        else:
            if os.statvfs(".").f_favail > 4 << 20:
                broken("80000 files and no end")
        """, timeout=300.0),
    _attack("file-size", "make one file of any size", """
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with open("sparse", "wb") as file:
            refused("a file of a terabyte", lambda: os.ftruncate(file.fileno(), 1 << 40))
        """),
    _attack("open-files", "open files without end", """
        opened = []
        try:
            while len(opened) < 66000:
                opened.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        else:
            broken(f"{len(opened)} descriptors")
        """),
    _attack("files-of-all", "open, in many processes, all files that the host allows", """
        import resource
        each = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        with open("/proc/sys/fs/file-max") as file:
            most = int(file.read())
        if each * 256 > most // 2:  # counted and not opened: other programs would miss them
            broken(f"256 processes may open {each} files each, of {most} of the host")
        """, resources={"pids": 256, "nofile": 65536}),
    _attack("file-locks", "have the kernel's memory for locks, which no cgroup counts", """
        import fcntl, struct
        files = [os.memfd_create("locks") for _ in range(500)]
        for file in files:
            for at in range(300):
                lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 2 * at, 1, 0)
                fcntl.fcntl(file, fcntl.F_SETLK, lock)
        time.sleep(10)
        broken("it holds 150000 locks")
        """, ends="locks"),
    _attack("locks-on-eventfds", "delay all who close an eventfd, by locks on their inode", """
        import fcntl, struct
        file = os.eventfd(0)
        for at in range(500):
            lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 2 * at, 1, 0)
            fcntl.fcntl(file, fcntl.F_SETLK, lock)
        time.sleep(10)
        broken("it holds 500 locks on the inode of all eventfds")
        """, ends="locks"),
    _attack("unaccepted-connections", "have connections that no cgroup counts", """
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 400_000)
        server.bind(("127.0.0.1", 0))
        server.listen(4096)
        for _ in range(250):  # at most 100 MB
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
            client.connect(server.getsockname())
            client.setblocking(False)
            try:
                while client.send(bytes(65536)):
                    pass
            except BlockingIOError:
                client.close()
        time.sleep(10)
        broken("250 full connections wait that nobody accepts")
        """, ends="connections"),
    _attack("pseudo-terminals", "take the pseudo terminals of everybody", """
        opened = []
        try:
            while len(opened) < 600:
                opened.append(os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY))
        except OSError:
            pass
        else:
            broken(f"{len(opened)} terminals")
        """),
    _attack("locked-memory", "lock memory, so that it cannot be taken back", """
        import mmap
        memory = mmap.mmap(-1, 64 << 20)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        if libc.mlock(ctypes.c_void_p(address), ctypes.c_size_t(64 << 20)) == 0:
            broken("64 MiB are locked")
        """),
    _attack("queued-signals", "queue signals without end", """
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGRTMIN})
        for number in range(50000):
            if libc.sigqueue(os.getpid(), signal.SIGRTMIN, None):
                break
        else:
            broken("50000 signals are queued")
        """),
    _attack("time", "run for ever, deaf to signals", """
        for number in range(1, 32):
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                signal.signal(number, signal.SIG_IGN)
        end = time.monotonic() + 15
        while time.monotonic() < end:
            pass
        broken("it had 15 seconds")
        """, ends="wall_s", timeout=1.0),
    _attack("stopped-clock", "stop itself, and with it the clock", """
        pid = os.fork()
        if pid == 0:
            time.sleep(15)
            os.kill(os.getppid(), signal.SIGCONT)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGSTOP)
        broken("it had 15 seconds")
        """, ends="wall_s", timeout=1.0),
    _attack("output", "print without end", """
        line = b"x" * 1023 + b"\\n"
        for _ in range(48 << 10):
            os.write(1, line)
        """, ends="cut"),
)  # fmt: skip
