"""The protections around the runs: of files by name, of the daemon's halves, of its doors."""

from __future__ import annotations

from .protection import CONTAINER, HostGuarantee, Protection
from .remedies import Kernel

PROTECTIONS = (
    Protection(
        "two halves",
        "HTTP is spoken by a process without root or capabilities; "
        "the warden takes a table of requests over one socket, and checks each again; where one "
        "half sends what is no message, or nothing more, both end and the service starts again",
        ("warden/", "wire/messages.py", "wire/ops.py"),
        tests=("tests/wire/test_ops.py", "tests/test_imports.py",
               "tests/e2e/test_lifecycle.py", "tests/e2e/test_halves.py"),
        remains="the api can do to sessions what their clients can",
    ),
    Protection(
        "hosts by name",
        "the broker connects a run to the hosts and ports of its network profile alone: one form "
        "of each name, one resolution, checked addresses, public ones unless an address is listed, "
        "the name in TLS, requests written anew, no other protocol",
        ("network_hosts.py", "config/network_profiles.py", "broker/"),
        tests=("tests/test_network_hosts.py", "tests/broker/test_client_hello.py",
               "tests/broker/test_chunked_body.py",
               "tests/e2e/network/test_hosts.py", "tests/e2e/network/test_requests.py",
               "tests/e2e/network/test_restart.py", "tests/e2e/network/test_secrets.py"),
        remains="hosts behind one front differ by the name in TLS alone; an allowed host "
        "can pass data on; a host that shows headers gives a secret away",
    ),
    Protection(
        "broker",
        "a process with a uid of its own, without capabilities, in a cgroup and a mount view of "
        "its own without the state; it knows a run by a link from the warden alone; connections, "
        "bytes and rate of a session and of an owner are bounded",
        ("warden/broker/", "broker/broker.py", "broker/run_link.py",
         "broker/open_connections.py", "broker/shares.py"),
        tests=("tests/e2e/network/test_bounds.py", "tests/e2e/network/test_flood.py",
               "tests/broker/test_run_link.py", "tests/broker/test_shares.py"),
        remains="counts of a day begin again with a new broker; a broker that is taken over "
        "reaches what the host reaches; eight owners together can use all connections",
    ),
    Protection(
        "filters of api and broker",
        "both have a filter of system calls as programs have: they make no namespace, process or "
        "program, trace nothing, and reach no bpf, keyring or io_uring; the broker has a list of "
        "the calls that it needs, and opens files for reading alone; read back at the start",
        ("jail/daemon_filters.py", "jail/seccomp.py", "warden/startup.py",
         "warden/broker/broker_process.py"),
        tests=("tests/jail/test_daemon_filters.py",
               "tests/e2e/network/test_bounds.py::test_api_and_broker_have_filters"),
        remains="allowed calls reach the kernel; the api writes the files of its user",
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
        ("files/tar_reader.py", "files/unpacking.py", "files/commit.py", "files/links.py",
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
        "workspaces",
        "the kernel names the user at the Unix socket, whose directory below a configured path is "
        "opened by descriptor, without links and mounts, and shown through an idmapped mount; the "
        "warden seals its grant, and opens the directory again for each run",
        ("warden/slots/workspaces.py", "warden/requests/workspace_requests.py",
         "api/access/unix_caller.py"),
        (
            HostGuarantee(
                "files", "workspaces", "directories of the host can be workspaces",
                "use a directory on ext4, xfs, btrfs or tmpfs; for the service run scripts/install "
                "again",
                Kernel((5, 12), "CONFIG_USER_NS", "user.max_user_namespaces"),
                "or remove the path from [workspaces]",
            ),
        ),
        attacks=("leave-workspace",),
        tests=("tests/escape/test_workspaces.py", "tests/escape/test_workspace_grants.py",
               "tests/escape/test_workspace_file_systems.py", "tests/e2e/test_workspaces.py",
               "tests/e2e/test_workspace_views.py", "tests/api/test_workspaces.py",
               "tests/warden/slots/test_workspaces.py"),
        remains="sockets and FIFOs in the tree connect programs with those of the host that use "
        "them; the disk of the host is not bounded",
    ),
    Protection(
        "set-user-ID files",
        "the filter of a session with a workspace refuses each call that can set the bits; "
        "openat2, whose mode it cannot read, is unknown",
        ("jail/profile.py", "jail/seccomp.py"),
        attacks=("workspace-set-id",),
        tests=("tests/escape/test_set_id.py", "tests/escape/test_workspace_file_systems.py",
               "tests/jail/test_set_id_filter.py"),
        remains="the user's own set-user-ID file, which the user has put into the tree, can be "
        "changed through shared memory",
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
        "eleven capabilities, a read-only host, no device but loop devices; for runs no device and "
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
        ("warden/slots/slots.py", "warden/uid_lease.py", "warden/slots/reclaim.py"),
        (
            HostGuarantee(
                "host", "uids", "no account has a uid of the slots",
                "choose another slots.first_uid",
            ),
        ),
        tests=("tests/warden/slots/test_slots.py", "tests/warden/test_uid_lease.py",
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
        ("host/unix_peer.py", "api/http/peer.py", "api/access/callers.py", "warden/host_groups.py"),
        tests=("tests/api/test_users.py", "tests/api/test_routes.py", "tests/e2e/test_users.py",
               "tests/e2e/test_service.py"),
        remains="a process that has an open connection acts as the user who made it",
    ),
    Protection(
        "proxies",
        "a forwarded request is refused on a plain Unix socket, where all clients of a proxy would "
        "be one user; on a socket with auth=keypair every request is signed, root's too",
        ("api/access/forwarded.py", "config/listen_address.py"),
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
        ("cli/connection/request_keys.py", "cli/connection/endpoint.py"),
        tests=("tests/cli/test_request_keys.py", "tests/cli/test_endpoint.py"),
        remains="an http:// endpoint has no TLS",
    ),
    Protection(
        "connection permits",
        "a connection without an authenticated request gives way when permits are short, the "
        "oldest first; each address, each user of a Unix socket, each owner and root has a share",
        ("api/http/connection_permits.py", "api/http/connections.py"),
        tests=("tests/api/test_connection_permits.py", "tests/api/test_http_protocol.py",
               "tests/api/test_floods.py"),
        remains="owners who have as many connections as there are permits",
    ),
    Protection(
        "memory of clients",
        "bodies, WebSocket messages and the inputs of waiting runs of all clients have one total, "
        "and an owner has half; "
        "a message has a deadline; heads have a total; freed memory goes back to the host",
        ("api/http/body_budget.py", "api/http/ws_protocol.py", "api/freed_memory.py",
         "api/sessions/waiting_inputs.py"),
        tests=("tests/api/test_ws_protocol.py", "tests/api/test_floods.py",
               "tests/api/test_freed_memory.py", "tests/api/test_overload.py",
               "tests/api/test_waiting_inputs.py"),
        remains="two owners together can use up the total",
    ),
    Protection(
        "permits of file helpers",
        "a session has eight file helpers at most, and all together 128, of which an owner gets "
        "half; a call waits its turn for 10 s and is refused then",
        ("api/processes/file_client.py",),
        tests=("tests/api/test_helper_permits.py",),
        remains="two owners together can use all permits",
    ),
    Protection(
        "time to live",
        "the session of a command or a CI job ends with its holder, by a connection that closes or "
        "a renewal that does not come; after a start of the daemon holders have a minute",
        ("api/sessions/time_to_live.py", "api/sessions/reaper.py", "cli/connection/holder.py"),
        tests=("tests/api/test_time_to_live.py", "tests/e2e/test_holders.py"),
        remains="clients that request no time to live, and the default of sessions.idle_s",
    ),
    Protection(
        "steps of CI systems",
        "only listed variables and files go into a session; of the files that come back, names "
        "and sizes are checked, and no link is followed; variables of a script have a prefix on "
        "the host, and workflow commands in its output are stopped; the session of a job follows "
        "from what the runner says, not from variables of the job",
        ("cli/step/step_environment.py", "cli/step/carried_files.py", "cli/step/passed_on.py",
         "cli/workflow_commands.py", "cli/sh.py", "cli/gitlab.py"),
        tests=("tests/cli/test_step_environment.py", "tests/cli/test_carried_files.py",
               "tests/cli/test_passed_on.py", "tests/cli/test_workflow_commands.py",
               "tests/cli/test_gitlab.py", "tests/e2e/test_session_commands.py"),
        remains="a CI system applies variables of SANDBOXD_PASS to later steps on the host too",
    ),
    Protection(
        "web pages",
        "Host, Origin and Sec-Fetch-Site are checked where requests are not signed",
        ("api/access/csrf.py",),
        tests=("tests/api/test_csrf.py",),
        remains="a program of another user of the host reaches the loopback: use keys there",
    ),
)  # fmt: skip
