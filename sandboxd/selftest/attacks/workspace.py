"""Attacks on a workspace, a directory of the host: to leave it, or a set-user-ID file in it.

The user of the command has named the directory, and looks at it afterwards (host_view.py). The
programs leave nothing in it but a hidden directory, which each of them removes.
"""

from __future__ import annotations

from ..attack import of

_attack = of("files", workspace=True)

_PLACE = """
        import shutil
        place = ".sandboxd-selftest"
        shutil.rmtree(place, ignore_errors=True)
        os.mkdir(place)
        """

ATTACKS = (
    _attack("workspace-set-id", "leave a set-user-ID file on the host", _PLACE + """
        AT_FDCWD = -100
        name = os.fsencode(f"{place}/f")
        def made(mode):
            fd = os.open(name, os.O_CREAT | os.O_RDWR, 0o600)
            try:
                os.fchmod(fd, mode)
            finally:
                os.close(fd)
        def nameless(mode):
            fd = os.open(place, os.O_TMPFILE | os.O_WRONLY, mode)
            libc.linkat(AT_FDCWD, b"/proc/self/fd/%d" % fd, AT_FDCWD, name, 0x400)
            os.close(fd)
        def through_openat2(mode):
            how = b"".join(number.to_bytes(8, sys.byteorder) for number in
                           (os.O_CREAT | os.O_WRONLY, mode, 0))
            os.close(call("openat2", AT_FDCWD, name, how, len(how)))
        def changed(act):
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o600))
            act()
        ways = {
            "open": lambda mode: os.close(os.open(name, os.O_CREAT | os.O_WRONLY, mode)),
            "mknod": lambda mode: os.mknod(name, stat.S_IFREG | mode),
            "creat": lambda mode: libc.creat(name, mode),
            "fchmod": made,
            "chmod": lambda mode: changed(lambda: os.chmod(name, mode)),
            "fchmodat2": lambda mode: changed(lambda: call("fchmodat2", AT_FDCWD, name, mode, 0)),
            "O_TMPFILE": nameless,
            "openat2": through_openat2,
        }
        os.umask(0)
        for bits in (0o4755, 0o2755, 0o6777):
            for way, act in ways.items():
                try:
                    act(bits)
                except OSError:
                    pass
                if os.path.exists(name):
                    if os.stat(name).st_mode & 0o6000:
                        broken(f"{way} set the bits {bits:o}")
                        os.chmod(name, 0o600)
                    os.unlink(name)
        shutil.rmtree(place)
        """),
    _attack("leave-workspace", "get from the workspace to other files of the host", _PLACE + """
        inside = os.stat("/home").st_dev, os.stat("/home").st_ino
        above = os.stat("..")
        if (above.st_dev, above.st_ino) != inside:
            broken(".. leads to another directory than /home")
        os.symlink(CANARY["path"], f"{place}/link")
        refused("a link out of the workspace", lambda: open(f"{place}/link").read())
        refused("a handle", lambda: call("open_by_handle_at", 0, b"", 0))
        refused("a device", lambda: os.mknod(f"{place}/d", stat.S_IFBLK | 0o600, os.makedev(8, 0)))
        refused("another owner", lambda: os.chown(place, 0, 0))
        home = [line.split() for line in open("/proc/self/mounts") if " /home/work " in line]
        for _, _, _, options, *_ in home:
            if not {"nosuid", "nodev", "idmapped"} <= set(options.split(",")):
                broken(f"the mount has the options {options}")
        if len(home) != 1 or any(" /home/work/" in line for line in open("/proc/self/mounts")):
            broken("there are other mounts in /home/work")
        shutil.rmtree(place)
        """),
)  # fmt: skip
