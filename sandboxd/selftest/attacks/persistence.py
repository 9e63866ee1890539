"""The attacks that try to outlive their run or session. The host looks for their remains."""

from __future__ import annotations

from ..attack import of

_attack = of("persistence", looks="nothing")

_DEAF = """
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
"""

ATTACKS = (
    _attack("daemon", "leave a process behind that has left its session", _DEAF + """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(30)
    os._exit(0)
wait_for_host()
"""),
    _attack("stopped-process", "leave a stopped process behind", _DEAF + """
if os.fork() == 0:
    os.setsid()
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(30)
    os._exit(0)
wait_for_host()
"""),
    _attack("fork-storm", "be ended in the middle of a storm of forks", _DEAF + """
end = time.monotonic() + 10
for _ in range(8):
    try:
        pid = os.fork()
    except BlockingIOError:  # the storm has all processes of the run already
        break
    if pid == 0:
        while time.monotonic() < end:
            try:
                if os.fork():
                    os._exit(0)
            except BlockingIOError:
                time.sleep(0.001)
        os._exit(0)
wait_for_host()
"""),
    _attack("holds-output", "keep the run open by holding its output", _DEAF + """
if os.fork() == 0:
    os.setsid()
    time.sleep(30)
    os._exit(0)
wait_for_host()
"""),
    _attack("shared-objects", "leave System V and POSIX objects behind", """
for name, arguments in (("shmget", (1, 4096, 0o1666)), ("semget", (1, 1, 0o1666)),
                        ("msgget", (1, 0o1666))):
    call(name, *arguments)
libc.mq_open.argtypes = [ctypes.c_char_p, c_int, ctypes.c_uint, c_void_p]
libc.mq_open(b"/sandboxd-selftest", os.O_CREAT | os.O_RDWR, 0o666, None)
open("/dev/shm/sandboxd-selftest", "w").close()
wait_for_host()
"""),
    _attack("deep-tree", "leave a tree that is too deep to be removed", """
for _ in range(1500):
    os.mkdir("d" * 60)
    os.chdir("d" * 60)
wait_for_host()
"""),
    _attack("unremovable-files", "leave files that nobody may remove", """
os.mkdir("closed")
for name in ("closed/file", "closed/.hidden", "closed/new\\nline", "closed/-rf"):
    open(name, "w").close()
os.mkfifo("closed/fifo")
os.chmod("closed", 0)
os.chmod(".", 0)
wait_for_host()
"""),
    _attack("locks-and-leases", "hold locks and leases on what is shared", """
import fcntl
opened = []
for path in ("/usr/bin/env", "/etc/passwd", "/dev/null", "/home/work"):
    opened.append(os.open(path, os.O_RDONLY))
    for act in (lambda fd: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB),
                lambda fd: fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)):
        try:
            act(opened[-1])
        except OSError:
            pass
wait_for_host()
"""),
)  # fmt: skip
