"""The protections around the runs: of files by name, of the daemon's halves, of its doors."""

from __future__ import annotations

from .entry import CONTAINER, HostGuarantee, Protection
from .remedies import Kernel

PROTECTIONS = (
    Protection(
        "two halves",
        "HTTP is spoken by a process without root or capabilities; "
        "the warden takes a table of requests over one socket, and checks each again; where one "
        "half sends what is no message, or nothing more, both end and the service starts again",
        ("warden/", "wire.py", "wire_ops.py"),
        tests=("tests/test_wire_ops.py", "tests/test_imports.py",
               "tests/e2e/test_lifecycle.py", "tests/e2e/test_halves.py"),
        remains="the api can do to sessions what their clients can",
    ),
    Protection(
        "names",
        "names of clients are resolved as the slot's uid in a view of the scratch alone, "
        "with openat2 beneath the workdir, without magic links",
        ("files/",),
        (
            HostGuarantee(
                "files", "openat2", "names of clients cannot lead out of a session",
                CONTAINER, Kernel((5, 6)),
            ),
            HostGuarantee(
                "files", "protected-hardlinks", "nobody links to the files of others",
                "sysctl fs.protected_hardlinks=1",
            ),
        ),
        tests=("tests/files/test_races.py", "tests/e2e/test_files.py"),
    ),
    Protection(
        "archives",
        "an archive is unpacked by the slot's uid where no program sees it; only after a check "
        "of every member and link is it put into place, as a whole or not at all",
        ("files/tar_reader.py", "files/unpacking.py", "files/placement.py", "files/links.py",
         "api/http/compression.py"),
        tests=("tests/files/test_unpacking.py", "tests/files/test_archive_bounds.py",
               "tests/api/test_tree_archive.py", "tests/e2e/test_archive_kills.py"),
    ),
    Protection(
        "cases",
        "each case of a request begins with the files that the build left: a file helper has a "
        "copy where no program sees it, and restores each entry that a case has changed; the "
        "ctime of an inode, which no program can set, shows that",
        ("files/checkpoint.py", "files/exact_copy.py", "api/sessions/ephemeral_runs.py"),
        tests=("tests/files/test_checkpoint.py", "tests/e2e/test_run_request.py"),
        remains="a directory that a case has made large stays so, and takes some of the disk",
    ),
    Protection(
        "folders",
        "idmapped mounts: the files belong to one uid that no process has",
        ("jail/idmap.py", "warden/slots/folders.py"),
        (
            HostGuarantee(
                "files", "idmapped-mounts", "virtual folders: sessions with mounts",
                f"load the module loop; {CONTAINER}",
                Kernel((5, 12), "CONFIG_USER_NS", "user.max_user_namespaces"),
                "or do without folders",
            ),
        ),
        tests=("tests/escape/test_folders.py",),
    ),
    Protection(
        "all or nothing",
        "each restriction is read back from the kernel; a difference stops the run before any "
        "program starts, and the error names the stage",
        ("jail/enter.py", "jail/stage.py"),
        (
            HostGuarantee(
                "isolation", "whole-run", "all of it together, from cgroup to exit code",
                "see the other missing guarantees, and the stage that is named here",
            ),
        ),
        tests=("tests/escape/test_layers.py",),
    ),
    Protection(
        "the unit",
        "ten capabilities, a read-only host, no device but loop devices; for runs no device and "
        "no network but the loopback, by their cgroup",
        ("systemd/",),
        tests=("tests/e2e/test_capabilities.py", "tests/vm/installed.py"),
        remains="only as a service",
    ),
    Protection(
        "leases",
        "a uid is leased only after proof that no process, whatever its name, has it, "
        "and by one daemon of a host; the proof is made ahead, and the lease is held from then on; "
        "it is a lock in a directory that only root can enter",
        ("warden/slots/leases.py", "warden/uid_lease.py", "warden/slots/reclaim.py"),
        (
            HostGuarantee(
                "host", "uids", "no account has a uid of the slots",
                "choose another slots.first_uid",
            ),
        ),
        tests=("tests/warden/slots/test_leases.py", "tests/warden/test_uid_lease.py",
               "tests/warden/requests/test_provisioning.py"),
    ),
    Protection(
        "authentication",
        "signatures, replays refused, rates; an owner check on every route",
        ("api/access/authentication.py", "api/access/ownership.py"),
        tests=("tests/api/test_authentication.py", "tests/api/test_routes.py"),
        remains="no TLS: put a proxy in front",
    ),
    Protection(
        "users of the host",
        "on a plain Unix socket the kernel names the user, who is the owner; administration is "
        "root's and that of configured groups; the groups are those at the time of the connection",
        ("api/http/peer.py", "api/access/callers.py", "warden/host_groups.py"),
        tests=("tests/api/test_users.py", "tests/api/test_routes.py", "tests/e2e/test_users.py",
               "tests/e2e/test_service.py"),
        remains="a process that has an open connection acts as the user who made it",
    ),
    Protection(
        "proxies",
        "a forwarded request is refused on a plain Unix socket, where all clients of a proxy would "
        "be one user; on a socket with auth=keypair every request is signed, root's too",
        ("api/access/forwarded.py", "listen_address.py"),
        tests=("tests/api/test_users.py", "tests/api/test_routes.py", "tests/e2e/test_users.py"),
        remains="a proxy that adds no header to requests: its clients act as its own user",
    ),
    Protection(
        "files of the state",
        "at each start every path has its owner and its mode: it is repaired where others could "
        "read it, and refused where others could change it, or where it is a link",
        ("warden/slots/state_files.py", "warden/slots/state_directory.py"),
        tests=("tests/warden/slots/test_state_files.py",
               "tests/warden/slots/test_state_directory.py",
               "tests/e2e/test_restored_state.py"),
        remains="a copy elsewhere, such as a backup, has the modes that its maker gave it",
    ),
    Protection(
        "secrets of former sessions",
        "environment and commands go with the session: SQLite overwrites them, the small tables "
        "that have them are written anew, and the log is truncated",
        ("store/secret_removal.py", "store/sessions.py"),
        tests=("tests/store/test_secrets.py", "tests/e2e/test_secrets.py"),
        remains="they are in clear while the session lives; blocks of the disk that were given "
        "back, and snapshots of the file system",
    ),
    Protection(
        "keys of commands",
        "a file with a keypair is the user's own and closed to others; a certificate of an "
        "endpoint must verify",
        ("cli/request_keys.py", "cli/endpoint.py"),
        tests=("tests/cli/test_request_keys.py", "tests/cli/test_endpoint.py"),
        remains="an http:// endpoint has no TLS",
    ),
    Protection(
        "places",
        "a connection without an authenticated request gives way when places are short, the "
        "oldest first; each address, each user of a Unix socket, each owner and root has a share",
        ("api/http/places.py", "api/http/connections.py"),
        tests=("tests/api/test_places.py", "tests/api/test_http_protocol.py",
               "tests/api/test_floods.py"),
        remains="owners who have as many connections as there are places",
    ),
    Protection(
        "memory of clients",
        "bodies, WebSocket messages and the inputs of waiting runs of all clients have one total, "
        "and an owner has half; "
        "a message has a deadline; heads have a total; freed memory goes back to the host",
        ("api/http/body_budget.py", "api/http/ws_protocol.py", "api/memory.py",
         "api/sessions/waiting_inputs.py"),
        tests=("tests/api/test_ws_protocol.py", "tests/api/test_floods.py",
               "tests/api/test_memory.py", "tests/api/test_overload.py",
               "tests/api/test_waiting_inputs.py"),
        remains="two owners together can use up the total",
    ),
    Protection(
        "places of file helpers",
        "a session has eight file helpers at most, and all together 128, of which an owner gets "
        "half; a call waits its turn for 10 s and is refused then",
        ("api/sessions/file_client.py",),
        tests=("tests/api/test_helper_places.py",),
        remains="two owners together can use all places",
    ),
    Protection(
        "web pages",
        "Host, Origin and Sec-Fetch-Site are checked where requests are not signed",
        ("api/access/csrf.py",),
        tests=("tests/api/test_csrf.py",),
        remains="a program of another user of the host reaches the loopback: use keys there",
    ),
)  # fmt: skip
