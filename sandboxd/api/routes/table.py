"""The table of all routes, by subject. The fields of a record are those of http/route.py.

A path is served by the first record that fits it, so `_` stands before `{ref}` and `{name}`.
"""

from __future__ import annotations

from ..http.route import WEBSOCKET, Access, Route
from . import (
    admin,
    apps,
    create_session,
    events,
    execute,
    files,
    folder_files,
    folders,
    gql,
    pty,
    server_info,
    session_admin,
    sessions,
    standard_input,
    stream,
    transfers,
    tree_archive,
)

_SERVER = (
    Route("GET", "/", server_info.version, access=Access.OPEN),
    Route("GET", "/healthz", server_info.healthz, access=Access.OPEN),
    Route("GET", "/readyz", server_info.readyz, access=Access.OPEN),
    Route("GET POST", "/auth", server_info.authorized, access=Access.CALLER),
    Route("GET", "/manager/status", server_info.status),
    Route("GET", "/manager/announcement", server_info.announcement, access=Access.CALLER),
    Route("GET", "/admin/drain", admin.show_drain, access=Access.ADMIN),
    Route("POST", "/admin/drain", admin.change_drain, "daemon.drain", Access.ADMIN),
    Route("GET", "/admin/leaks", admin.leaks, access=Access.ADMIN),
    Route("GET", "/admin/guarantees", admin.guarantees, access=Access.ADMIN),
    Route("POST", "/admin/gql", gql.gql),
    Route("POST", "/admin/graphql", gql.legacy),
)

_SESSIONS = (
    Route("POST", "/session", create_session.create, "session.create"),
    Route("POST", "/session/_/create", create_session.create, "session.create"),
    Route("GET", "/session/_/match", sessions.match),
    Route("GET", "/session/_/logs", session_admin.task_logs),
    Route("GET", "/session/{ref}", sessions.info),
    Route("POST", "/session/{ref}", execute.execute, "run.execute", polls=True),
    Route("PUT", "/session/{ref}/stdin", standard_input.put_stdin, "run.input", streams=True),
    Route("DELETE", "/session/{ref}", sessions.destroy, "session.delete"),
    Route("PATCH", "/session/{ref}", session_admin.restart, "session.restart"),
    Route("POST", "/session/{ref}/rename", session_admin.rename, "session.rename"),
    Route("GET", "/session/{ref}/logs", session_admin.logs),
    Route("GET", "/session/{ref}/status-history", session_admin.status_history),
    Route("POST", "/session/{ref}/commit", session_admin.commit, "session.commit"),
    Route("POST", "/session/{ref}/upload", files.upload, "session.upload"),
    Route("PUT", "/session/{ref}/archive", tree_archive.put, "session.upload"),
    Route("GET", "/session/{ref}/archive", tree_archive.get, "session.download"),
    Route("GET POST", "/session/{ref}/files", files.listing),
    Route("GET POST", "/session/{ref}/download", files.download, "session.download"),
    Route("GET POST", "/session/{ref}/download_single", files.download_single, "session.download"),
    Route("POST", "/session/{ref}/interrupt", sessions.interrupt, "session.interrupt"),
    Route("POST", "/session/{ref}/complete", execute.complete),
    Route(WEBSOCKET, "/stream/session/{ref}/execute", stream.execute, "run.execute", streams=True),
    Route(WEBSOCKET, "/stream/session/{ref}/pty", pty.pty, "session.terminal", streams=True),
    Route("GET", "/stream/session/{ref}/apps", apps.listing),
    Route("POST", "/session/{ref}/start-service", apps.start),
    Route(WEBSOCKET, "/stream/session/{ref}/tcpproxy", apps.connect),
    Route(WEBSOCKET, "/stream/session/{ref}/httpproxy", apps.connect),
    Route("GET", "/events/session", events.session_events, streams=True),
)

_FOLDERS = (
    Route("POST", "/folders", folders.create, "folder.create"),
    Route("GET", "/folders", folders.listing),
    Route("DELETE", "/folders", folders.remove_by_id, "folder.delete"),
    Route("GET", "/folders/_/id", folders.id_of),
    Route("GET", "/folders/_/hosts", folders.hosts, access=Access.CALLER),
    Route("GET", "/folders/_/all_hosts", folders.hosts, access=Access.CALLER),
    Route("GET", "/folders/_/allowed_types", folders.allowed_types, access=Access.CALLER),
    Route("PATCH", transfers.UPLOAD, transfers.patch, "folder.upload", Access.TOKEN),
    Route("HEAD", transfers.UPLOAD, transfers.offset, access=Access.TOKEN),
    Route("OPTIONS", transfers.UPLOAD, transfers.capabilities, access=Access.OPEN),
    Route("GET", transfers.DOWNLOAD, transfers.download, "folder.download", Access.TOKEN),
    Route("GET", "/folders/{name}", folders.info),
    Route("DELETE", "/folders/{name}", folders.remove, "folder.delete"),
    Route("POST", "/folders/{name}/rename", folders.rename, "folder.rename"),
    Route("POST", "/folders/{name}/update-options", folders.update_options, "folder.change"),
    Route("GET POST", "/folders/{name}/files", folder_files.listing),
    Route("POST", "/folders/{name}/mkdir", folder_files.mkdir, "folder.mkdir"),
    Route("POST", "/folders/{name}/rename-file", folder_files.rename, "folder.move-file"),
    Route("POST", "/folders/{name}/rename_file", folder_files.rename, "folder.move-file"),
    Route("POST", "/folders/{name}/move-file", folder_files.move, "folder.move-file"),
    Route(
        "DELETE POST", "/folders/{name}/delete-files", folder_files.remove, "folder.delete-files"
    ),
    Route(
        "DELETE POST", "/folders/{name}/delete_files", folder_files.remove, "folder.delete-files"
    ),
    Route(
        "POST", "/folders/{name}/request-upload", transfers.request_upload, "folder.request-upload"
    ),
    Route(
        "POST",
        "/folders/{name}/request-download",
        transfers.request_download,
        "folder.request-download",
    ),
)

ROUTES = (*_SERVER, *_SESSIONS, *_FOLDERS)
