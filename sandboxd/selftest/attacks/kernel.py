"""Attacks on the kernel: system calls that lead out, or that only attackers need.

The arguments change nothing even for root: bad descriptors, null pointers, flags that do not exist.
The filter answers EPERM or ENOSYS. Any other answer means that the call went past the filter and
the kernel looked at the arguments.
"""

from __future__ import annotations

from ..attack import of

_attack = of("kernel")

ATTACKS = (
    _attack("filter-on", "run without a filter, or ask for one to listen to", """
        if status("Seccomp") != ["2"]:
            broken(f"seccomp mode {status('Seccomp')}")
        refused("a filter with a listener", lambda: call("seccomp", 1, 8, 0), errno.EINVAL)
        if libc.prctl(22, 0, 0, 0, 0) == 0:
            broken("the filter was taken off")
        """),
    _attack("attach-filters", "fill the host's memory for compiled filters", """
        import socket, struct
        code = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7FFF0000))
        program = struct.pack("HxxxxxxP", 1, ctypes.addressof(code))
        for option in (26, 51):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                sock.bind(("127.0.0.1", 0))
                refused(f"socket option {option}",
                        lambda: sock.setsockopt(socket.SOL_SOCKET, option, program), errno.EINVAL)
        refused("a filter of system calls", lambda: call("seccomp", 1, 0, program), errno.EINVAL)
        refused("one by prctl", lambda: call("prctl", 22, 2, program, 0, 0), errno.EINVAL)
        """),
    _attack("uncounted-memory", "have memory of sockets that no cgroup counts", """
        import socket, struct
        item = struct.pack("QIIi4x", 20, 41, 8, 1)
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            for option in (6, 32, 57):
                refused(f"socket option {option}", lambda: sock.setsockopt(41, option, item * 99),
                        errno.ENOPROTOOPT)
        for option in (37, 60, 65):
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
                refused(f"socket option {option}",
                        lambda: sock.setsockopt(socket.SOL_SOCKET, option, 1), errno.EINVAL)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.IPPROTO_IP, 11, 1)
            sock.setblocking(False)
            try:
                for _ in range(2):
                    sock.sendto(b"x", ("127.0.0.1", 9))
            except OSError:
                broken("errors wait in a socket")
        if os.path.exists("/proc/sys/net/core/tstamp_allow_data"):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.sendmsg([b"x"], [(1, 37, struct.pack("I", 2))], 0, ("127.0.0.1", 9))
                refused("a copy of a packet waits in a socket",
                        lambda: sock.recvmsg(9, 999, socket.MSG_ERRQUEUE), errno.EAGAIN)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            key = struct.pack("HH4s120xBBHi80s", 2, 0, bytes([127, 0, 0, 1]), 0, 0, 4, 0, b"keys")
            refused("keys of TCP", lambda: sock.setsockopt(6, 14, key), errno.ENOPROTOOPT)
            for option in (38, 40):  # of TCP_AO, which most kernels do not have
                refused(f"TCP option {option}", lambda: sock.setsockopt(6, option, bytes(280)),
                        errno.ENOPROTOOPT)
        links = []
        def open_links():
            for _ in range(300):
                links.append(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))
        refused("hundreds of netlink sockets", open_links, errno.ENOBUFS)
        links.clear()
        # few in each: before Linux 6.7 the kernel's own bound for a socket is some 360
        groups = [socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) for _ in range(20)]
        def join():
            for number in range(4200):
                group = b"\\xff\\x02" + number.to_bytes(14, "big")
                groups[number % 20].setsockopt(41, 20, group + struct.pack("I", 1))
        refused("thousands of memberships", join, errno.ENOBUFS)
        """),
    _attack("uncounted-tables", "have tables of the kernel that no cgroup counts", """
        import mmap, select, struct
        file = os.memfd_create("policies")
        os.ftruncate(file, 1 << 20)
        view = mmap.mmap(file, 1 << 20)
        start = ctypes.addressof(ctypes.c_char.from_buffer(view))
        filtered("mbind", start, 4096, 2, struct.pack("Q", 1), 8, 0)
        def access_list(users):
            entries = [(1, 6, -1), *((2, 6, 1000 + n) for n in range(users)), (4, 6, -1),
                       (16, 6, -1), (32, 6, -1)]
            return b"\\2\\0\\0\\0" + b"".join(struct.pack("HHi", *one) for one in entries)
        refused("a large access list", lambda: os.setxattr(
            file, "system.posix_acl_access", access_list(1000)), errno.E2BIG)
        def set_lists():
            for _ in range(5000):
                os.setxattr(file, "system.posix_acl_access", access_list(200))
        refused("thousands of access lists", set_lists, errno.ENOSPC, errno.EOPNOTSUPP)
        poll = struct.pack("iHH", file, 1, 0) * 3000
        refused("a wait for thousands of files", lambda: call("ppoll", poll, 3000, bytes(16), 0, 0),
                errno.EINVAL)
        """),
    _attack("mount", "mount something", """
        filtered("mount", 0, 0, 0, 0, 0)
        filtered("mount", b"none", b"/nonexistent", b"tmpfs", 0, 0)
        filtered("umount2", b"/nonexistent", 0)
        """),
    _attack("new-mount-api", "mount by descriptor", """
        filtered("open_tree", -1, b"nonexistent", 0)
        filtered("move_mount", -1, b"", -1, b"", 0)
        filtered("fsopen", b"nonexistent", 0)
        filtered("fsconfig", -1, 0, 0, 0, 0)
        filtered("fsmount", -1, 0, 0)
        filtered("fspick", -1, b"nonexistent", 0)
        filtered("mount_setattr", -1, b"", 0, 0, 0)
        filtered("statmount", 0, 0, 0, 0)
        filtered("listmount", 0, 0, 0, 0)
        """),
    _attack("unshare", "make a namespace of its own, with all capabilities in it", """
        for flag in (0x10000000, 0x20000, 0x40000000, 0x20000000, 0x8000000, 0x4000000, 0x2000000):
            if in_child(lambda: call("unshare", flag)) == 0:
                broken(f"unshare with {flag:x}")
        filtered("unshare", 0x80)
        filtered("setns", -1, 0)
        """),
    _attack("clone-namespaces", "make a namespace by clone", """
        for flag in (0x10000000, 0x20000, 0x40000000, 0x20000000, 0x8000000, 0x4000000, 0x2000000):
            try:
                pid = call("clone", flag | 17)
            except OSError:
                continue
            if pid == 0:
                os._exit(0)
            os.waitpid(pid, 0)
            broken(f"clone with {flag:x}")
        filtered("clone3", 0, 0)
        """),
    _attack("io-uring", "do calls that no filter sees", """
        filtered("io_uring_setup", 0, 0)
        filtered("io_uring_enter", -1, 0, 0, 0, 0, 0)
        filtered("io_uring_register", -1, 0, 0, 0)
        """),
    _attack("bpf", "load a program into the kernel", "filtered('bpf', 9999, 0, 0)"),
    _attack("perf", "watch the kernel with its performance counters",
            "filtered('perf_event_open', 0, -1, -1, -1, 0)"),
    _attack("keyrings", "read or leave keys in the kernel's keyrings", """
        filtered("keyctl", 9999, 0, 0, 0, 0)
        filtered("add_key", 0, 0, 0, 0, 0)
        filtered("request_key", 0, 0, 0, 0)
        """),
    _attack("userfaultfd", "stop the kernel in the middle of a copy",
            "filtered('userfaultfd', -1)"),
    _attack("modules", "load a module", """
        filtered("init_module", 0, 0, 0)
        filtered("finit_module", -1, 0, 0)
        filtered("delete_module", 0, 0)
        """),
    _attack("reboot", "restart the machine, or another kernel", """
        filtered("reboot", 0, 0, 0, 0)  # without its magic numbers: nothing even for root
        filtered("kexec_load", 0, 1 << 40, 0, 1 << 40)
        filtered("kexec_file_load", -1, -1, 0, 0, 1 << 40)
        """),
    _attack("swap-and-quota", "change swap, quotas and accounting", """
        filtered("swapon", 0, 0)
        filtered("swapoff", 0)
        filtered("quotactl", -1, 0, 0, 0)
        filtered("quotactl_fd", -1, -1, 0, 0)
        filtered("acct", b"/nonexistent/file")
        """),
    _attack("clock", "set the clock or the name of the host", """
        filtered("clock_settime", 9999, 0)
        filtered("settimeofday", 1, 1)
        filtered("clock_adjtime", 9999, 0)
        filtered("sethostname", 0, -1)
        filtered("setdomainname", 0, -1)
        """),
    _attack("ports", "reach the ports and tables of the processor", """
        filtered("iopl", 9)
        filtered("ioperm", 1 << 40, 1, 1)
        filtered("modify_ldt", 99, 0, 0)
        """),
    _attack("kernel-log", "read or clear the kernel's log", """
        filtered("syslog", 99, 0, 0)
        filtered("lookup_dcookie", 0, 0, 0)
        """),
    _attack("watch-files", "watch the files of everybody", """
        filtered("fanotify_init", 1 << 30, 0)
        """),
    _attack("move-memory", "move the memory of other processes", """
        filtered("move_pages", 1, 0, 0, 0, 0, 0)
        filtered("migrate_pages", 1, 0, 0, 0)
        filtered("process_madvise", -1, 0, 0, 0, 0)
        """),
    _attack("terminal-injection", "type into a terminal, also with bits that a filter may miss", """
        for number in (0x5412, 0x541C, 0x541D, 0x5423):
            for high in (0, 1 << 32, 0xFFFFFFFF << 32):
                refused(f"ioctl {number | high:x}", lambda: call("ioctl", -1, number | high),
                        errno.EPERM)
        """),
    _attack("other-architecture", "make calls of i386, which another table judges", """
        import mmap
        if os.uname().machine == "x86_64":
            # mov eax, 20 (getpid); int 0x80; ret
            code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
            code.write(bytes.fromhex("b814000000cd80c3"))
            address = ctypes.addressof(ctypes.c_char.from_buffer(code))
            state = in_child(lambda: ctypes.CFUNCTYPE(ctypes.c_int)(address)())
            # SIGSYS by the filter; SIGSEGV where the kernel has no such calls at all
            ends = (signal.SIGSYS, signal.SIGSEGV)
            if not os.WIFSIGNALED(state) or os.WTERMSIG(state) not in ends:
                broken(f"int 0x80 was carried out: {state:x}")
        """),
    _attack("x32", "make calls of x32, which have other numbers", """
        for number in (39, 165, 272, 321, 425, 520):
            refused(f"x32 call {number}", lambda: numbered(0x40000000 | number), errno.ENOSYS)
        """),
    _attack("unknown-calls", "make calls that are newer than the filter", """
        for number in (*range(470, 512), 9999):
            refused(f"call {number}", lambda: numbered(number, *[-1] * 6),
                    errno.ENOSYS, errno.EPERM)
        """),
    _attack("personality", "pass for a program of another system", """
        refused("PER_LINUX32", lambda: call("personality", 8), errno.EPERM)
        """),
)  # fmt: skip
