"""Attacks by the network: to reach anything but the run itself."""

from __future__ import annotations

from ..attack import of

_attack = of("network")

ATTACKS = (
    _attack("loopback-tcp", "reach a service on the host's loopback", """
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "127.0.0.2"),
                             (socket.AF_INET6, "::1"), (socket.AF_INET, "0.0.0.0")):
            with socket.socket(family) as sock:
                sock.settimeout(2)
                refused(f"connected to {host}", lambda: sock.connect((host, CANARY["tcp"])))
        """),
    _attack("loopback-udp", "send to a service on the host's loopback", """
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.5)
            sock.connect(("127.0.0.1", CANARY["udp"]))
            sock.send(b"attack")
            refused("the canary answered", lambda: sock.recv(16))
        """),
    _attack("abstract-socket", "reach a service by an abstract socket", """
        with socket.socket(socket.AF_UNIX) as sock:
            refused("connected", lambda: sock.connect("\\0" + CANARY["abstract"]))
        if len(open("/proc/net/unix").read().splitlines()) > 3:
            broken("sockets of the host are listed")
        """),
    _attack("way-out", "reach another machine", """
        # connect of a datagram socket looks for a way and sends nothing
        for address in ("192.0.2.1", "198.51.100.1", "169.254.169.254", "8.8.8.8"):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                refused(f"a way to {address}", lambda: sock.connect((address, 53)),
                        errno.ENETUNREACH)
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            refused("a way to 2001:db8::1", lambda: sock.connect(("2001:db8::1", 53)))
        """),
    _attack("interfaces", "use an interface that is not the loopback", """
        idle = ("lo", "tunl", "gre", "gretap", "erspan", "ip_vti", "ip6", "sit", "ip6_vti", "teql")
        for line in open("/proc/net/dev").read().splitlines()[2:]:
            name, _, counts = line.partition(":")
            if not name.strip().startswith(idle):
                broken(f"the interface {name.strip()}")
            elif name.strip() != "lo" and any(int(n) for n in counts.split()):
                broken(f"{name.strip()} has traffic")
        for line in open("/proc/net/route").read().splitlines()[1:]:
            name, to, gateway, *_, mask = line.split()[:8]
            if (name, to, gateway, mask) != ("lo", "000000E0", "00000000", "000000F0"):
                broken(f"a route to {to} over {name}")
        """),
    _attack("proxy-port", "use a proxy of the host without a network profile", """
        for name in os.environ:
            if name.lower().endswith("_proxy"):
                broken(f"the variable {name}")
        for port in (3128, 8080, 1080):
            with socket.socket() as sock:
                sock.settimeout(2)
                refused(f"connected to port {port}", lambda: sock.connect(("127.0.0.1", port)),
                        errno.ECONNREFUSED)
        """),
    _attack("raw-sockets", "send packets of its own making", """
        for kind, protocol in ((socket.SOCK_RAW, socket.IPPROTO_ICMP), (socket.SOCK_RAW, 255)):
            refused("a raw socket", lambda: socket.socket(socket.AF_INET, kind, protocol))
        for kind in (socket.SOCK_RAW, socket.SOCK_DGRAM):
            refused("a packet socket", lambda: socket.socket(socket.AF_PACKET, kind, 3),
                    errno.EAFNOSUPPORT)
        """),
    _attack("socket-families", "use a kind of socket that programs have no use for", """
        allowed = {socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK}
        for family in set(range(1, 64)) - allowed:
            for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
                refused(f"the family {family}", lambda: socket.socket(family, kind, 0),
                        errno.EAFNOSUPPORT)
        """),
    _attack("netlink", "use netlink for more than a list of the interfaces", """
        import struct
        # all but route: sock_diag, xfrm, audit, netfilter, uevent, generic and others
        for protocol in range(1, 300):
            for kind in (socket.SOCK_RAW, socket.SOCK_DGRAM):
                refused(f"netlink {protocol}", lambda: socket.socket(socket.AF_NETLINK,
                        kind, protocol), errno.EPROTONOSUPPORT)
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
            sock.bind((0, 0))
            sock.settimeout(5)
            def change(number, body):
                # NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE
                sock.send(struct.pack("IHHII", 16 + len(body), number, 0x405, 1, 0) + body)
                error, = struct.unpack_from("i", sock.recv(4096), 16)
                if error:
                    raise OSError(-error, os.strerror(-error))
            lo_down = struct.pack("BxHiII", 0, 0, 1, 0, 1)
            local = struct.pack("HH4s", 8, 2, bytes([10] * 4))
            address = struct.pack("BBBBI", 2, 8, 0, 0, 1) + local
            route = struct.pack("8BI", 2, 0, 0, 0, 254, 4, 253, 1, 0) + struct.pack("HHi", 8, 4, 1)
            link = struct.pack("BxHiII", 0, 0, 0, 0, 0)
            for name, number, body in (("flags of lo", 19, lo_down), ("a new link", 16, link),
                                       ("an address", 20, address), ("a route", 24, route)):
                refused(name, lambda: change(number, body), errno.EPERM)
        """),
    _attack("vsock", "speak with the hypervisor", """
        refused("AF_VSOCK", lambda: socket.socket(40, socket.SOCK_STREAM), errno.EAFNOSUPPORT)
        """),
    _attack("kernel-crypto", "use the kernel's ciphers by AF_ALG", """
        refused("AF_ALG", lambda: socket.socket(38, socket.SOCK_SEQPACKET), errno.EAFNOSUPPORT)
        """),
    _attack("network-settings", "change an interface", """
        import fcntl, struct
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            up = struct.pack("16sH22x", b"lo", 0x49)
            refused("flags of lo", lambda: fcntl.ioctl(sock, 0x8914, up), errno.EPERM)
            address = struct.pack("16sHH4s8x", b"lo", 2, 0, bytes([127, 0, 0, 1]))
            refused("address of lo", lambda: fcntl.ioctl(sock, 0x8916, address), errno.EPERM)
        """),
)  # fmt: skip
