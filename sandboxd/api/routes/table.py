"""The table of all routes, by subject. The fields of a record are those of http/route.py.

A path is served by the first record that fits it, so `_` stands before `{ref}` and `{name}`.
"""

from __future__ import annotations

from dataclasses import replace

from ..access.parameters import NoParameters
from ..folders import tus
from ..http import compression, multipart, ranges
from ..http.route import (
    CREATED,
    DONE,
    OCTETS,
    WEBSOCKET,
    Access,
    Content,
    ResponseSpec,
    Route,
)
from . import (
    admin,
    apps,
    completions,
    create_session,
    events,
    execute,
    files,
    folder_files,
    folders,
    frames,
    gql,
    holders,
    pty,
    run_form,
    run_request,
    server_info,
    session_admin,
    sessions,
    standard_input,
    stream,
    transfers,
    tree_archive,
)

_OPEN, _TOKEN, _CALLER, _ADMIN = Access.OPEN, Access.TOKEN, Access.CALLER, Access.ADMIN
_NONE = NoParameters

_HEALTH = (
    ResponseSpec(200, meaning="Healthy."), ResponseSpec(503, meaning="Not healthy, or not ready."),
)  # fmt: skip
_TEXT = ResponseSpec(media=("text/plain",), meaning="The console as a text.")
_BYTES = ResponseSpec(
    media=(OCTETS,), meaning="The bytes of the file.",
    headers={"Content-Disposition": "attachment, with the name of the file (RFC 8187)"},
)  # fmt: skip
_TARS = ResponseSpec(media=("multipart/mixed",), meaning="A tar for each path, in their order.")
_TAR = ResponseSpec(
    media=(tree_archive.TAR,), meaning="The archive, packed as `compress` says.",
    headers={
        "X-Sandboxd-Unmatched": "JSON: the patterns that match nothing",
        "X-Sandboxd-Left-Out": "JSON: count and first entries that are left out",
    },
)  # fmt: skip
_EVENTS = ResponseSpec(
    media=("text/event-stream",),
    meaning="Server-sent events. The data of an event is JSON; the last event is server_close.",
)
_HOLD = ResponseSpec(
    media=("text/event-stream",),
    meaning="Server-sent events: session_held at once, and server_close when the session ends.",
)
_CALL = ResponseSpec(shape=(execute.CallResult, completions.CompletionResult))
_STDIN = Content((OCTETS,), "The input, at the speed of the program.", required=False)
_EMPTY = ResponseSpec(201, (), "The folder was changed.")
_LISTING = (ResponseSpec(shape=files.Listing, meaning="The directory."),)
_FOLDER_LISTING = (ResponseSpec(shape=folder_files.FolderListing, meaning="The directory."),)
_GONE_ON = {"Tus-Resumable": "the version of tus", "Upload-Offset": "the bytes that have arrived",
            "Upload-Length": "the bytes of the whole file"}  # fmt: skip
_PATCHED = ResponseSpec(204, (), "The bytes were added.", headers=_GONE_ON)
_OFFSET = ResponseSpec(200, (), "The upload.", headers=_GONE_ON)
_TUS = ResponseSpec(
    204, (), "The version of tus, and the largest upload.",
    headers={"Tus-Version": "the versions of tus", "Tus-Max-Size": "bytes"},
)  # fmt: skip
_DOWNLOADS = (
    ResponseSpec(media=(OCTETS,), meaning="The file.", headers=ranges.ANSWER),
    ResponseSpec(206, (OCTETS,), "The range.", headers=ranges.ANSWER | ranges.PARTIAL),
)

_SERVER = (
    Route("GET", "/", server_info.version, access=_OPEN),
    Route("GET", "/openapi.json", server_info.openapi, access=_OPEN,
          responses=(ResponseSpec(meaning="This document.", shape=dict),)),
    Route("GET", "/healthz", server_info.healthz, access=_OPEN, responses=_HEALTH),
    Route("GET", "/readyz", server_info.readyz, access=_OPEN, responses=_HEALTH),
    Route("GET POST", "/auth", server_info.authorized, access=_CALLER, takes=server_info.Echo),
    Route("GET", "/manager/status", server_info.status, takes=_NONE),
    Route("GET", "/manager/announcement", server_info.announcement, access=_CALLER, takes=_NONE),
    Route("GET", "/admin/drain", admin.show_drain, access=_ADMIN, takes=_NONE),
    Route("POST", "/admin/drain", admin.change_drain, "daemon.drain", _ADMIN,
          takes=admin.DrainRequest),
    Route("GET", "/admin/leaks", admin.leaks, access=_ADMIN, takes=_NONE, refuses=(507,)),
    Route("GET", "/admin/guarantees", admin.guarantees, access=_ADMIN, takes=_NONE),
    Route("POST", "/admin/gql", gql.gql, takes=gql.Query,
          responses=(ResponseSpec(shape=gql.Data, meaning="The data of the query."),)),
    Route("POST", "/admin/graphql", gql.legacy, takes=gql.Query,
          responses=(ResponseSpec(shape=dict | None, meaning="The bare data of the query."),)),
)  # fmt: skip

_CREATE_SESSION = Route(
    "POST", "/session", create_session.create, "session.create",
    takes=create_session.CreateSession, refuses=(404, 412, 507),
    responses=(ResponseSpec(meaning="The session exists already."), CREATED),
)  # fmt: skip

_SESSIONS = (
    _CREATE_SESSION,
    replace(_CREATE_SESSION, path="/session/_/create"),
    Route("GET", "/session/_/match", sessions.match, takes=sessions.MatchSessions),
    Route("GET", "/session/_/logs", session_admin.task_logs, takes=session_admin.TaskLogs,
          responses=(_TEXT,), refuses=(404,)),
    Route("GET", "/session/{ref}", sessions.info, takes=_NONE),
    Route("POST", "/session/{ref}", execute.execute, "run.execute", polls=True,
          takes=execute.Call, responses=(_CALL,), refuses=(412, 507)),
    Route("PUT", "/session/{ref}/stdin", standard_input.put_stdin, "run.input", streams=True,
          takes=standard_input.StdinCall, content=_STDIN, refuses=(507,)),
    Route("DELETE", "/session/{ref}", sessions.destroy, "session.delete",
          takes=sessions.DestroySession, refuses=(507,)),
    Route("PATCH", "/session/{ref}", session_admin.restart, "session.restart", takes=_NONE,
          responses=(DONE,), refuses=(507,)),
    Route("POST", "/session/{ref}/rename", session_admin.rename, "session.rename",
          takes=session_admin.RenameSession, responses=(DONE,), refuses=(507,)),
    Route("GET", "/session/{ref}/logs", session_admin.logs, takes=session_admin.ReadLog),
    Route("GET", "/session/{ref}/hold", holders.hold, streams=True, takes=_NONE,
          responses=(_HOLD,)),
    Route("POST", "/session/{ref}/renew", holders.renew, "session.renew",
          takes=holders.RenewSession, responses=(DONE,), refuses=(507,)),
    Route("GET", "/session/{ref}/status-history", session_admin.status_history, takes=_NONE),
    Route("POST", "/session/{ref}/commit", session_admin.commit, "session.commit", takes=_NONE,
          responses=(), refuses=(501,)),
    Route("POST", "/session/{ref}/upload", files.upload, "session.upload", takes=_NONE,
          content=multipart.CONTENT, responses=(DONE,), refuses=(412, 507)),
    Route("PUT", "/session/{ref}/archive", tree_archive.put, "session.upload",
          takes=tree_archive.PutArchive, content=tree_archive.CONTENT,
          headers=(compression.HEADER,), refuses=(412, 507)),
    Route("GET", "/session/{ref}/archive", tree_archive.get, "session.download",
          takes=tree_archive.GetArchive, responses=(_TAR,), refuses=(507,)),
    Route("GET POST", "/session/{ref}/files", files.listing, takes=files.ListFiles,
          responses=_LISTING, refuses=(507,)),
    Route("GET POST", "/session/{ref}/download", files.download, "session.download",
          takes=files.DownloadFiles, responses=(_TARS,), refuses=(507,)),
    Route("GET POST", "/session/{ref}/download_single", files.download_single,
          "session.download", takes=files.DownloadSingleFile, responses=(_BYTES,), refuses=(507,)),
    Route("POST", "/session/{ref}/interrupt", sessions.interrupt, "session.interrupt",
          takes=sessions.Interrupt, responses=(DONE,), refuses=(507,)),
    Route("POST", "/session/{ref}/complete", completions.complete, takes=completions.Complete),
    Route("POST", "/run", run_request.run, "run.request", takes=run_request.RunRequest,
          content=run_form.CONTENT, refuses=(404, 412, 507)),
    Route(WEBSOCKET, "/stream/session/{ref}/execute", stream.execute, "run.execute", streams=True,
          takes=_NONE, frames=stream.FRAMES),
    Route(WEBSOCKET, "/stream/session/{ref}/pty", pty.pty, "session.terminal", streams=True,
          takes=_NONE, frames=frames.FRAMES),
    Route("GET", "/stream/session/{ref}/apps", apps.listing, takes=_NONE, responses=(),
          refuses=(501,)),
    Route("POST", "/session/{ref}/start-service", apps.start, takes=apps.StartService, responses=(),
          refuses=(501,)),
    Route(WEBSOCKET, "/stream/session/{ref}/tcpproxy", apps.connect, takes=apps.ConnectApp),
    Route(WEBSOCKET, "/stream/session/{ref}/httpproxy", apps.connect, takes=apps.ConnectApp),
    Route("GET", "/events/session", events.session_events, streams=True,
          takes=events.EventFilter, responses=(_EVENTS,), refuses=(404, 412)),
)  # fmt: skip

_REMOVE_FILES = Route(
    "DELETE POST", "/folders/{name}/delete-files", folder_files.remove, "folder.delete-files",
    takes=folder_files.RemoveFiles, refuses=(412, 507),
)  # fmt: skip
_RENAME_FILE = Route(
    "POST", "/folders/{name}/rename-file", folder_files.rename, "folder.move-file",
    takes=folder_files.RenameFile, responses=(CREATED,), refuses=(412, 507),
)  # fmt: skip

_FOLDERS = (
    Route("POST", "/folders", folders.create, "folder.create", takes=folders.CreateFolder,
          responses=(CREATED,), refuses=(404, 412, 507)),
    Route("GET", "/folders", folders.listing, takes=folders.ListFolders),
    Route("DELETE", "/folders", folders.remove_by_id, "folder.delete", takes=folders.FolderById,
          responses=(DONE,), refuses=(404, 507)),
    Route("GET", "/folders/_/id", folders.id_of, takes=folders.FolderByName, refuses=(404,)),
    Route("GET", "/folders/_/hosts", folders.hosts, access=_CALLER, takes=_NONE),
    Route("GET", "/folders/_/all_hosts", folders.hosts, access=_CALLER, takes=_NONE),
    Route("GET", "/folders/_/allowed_types", folders.allowed_types, access=_CALLER, takes=_NONE),
    Route("PATCH", transfers.UPLOAD, transfers.patch, "folder.upload", _TOKEN,
          takes=transfers.UploadUrl, content=tus.CONTENT, headers=tus.PATCH_HEADERS,
          responses=(_PATCHED,), refuses=(409, 412, 415, 423, 507)),
    Route("HEAD", transfers.UPLOAD, transfers.offset, access=_TOKEN, takes=transfers.UploadUrl,
          headers=tus.HEADERS, responses=(_OFFSET,), refuses=(412, 423, 507)),
    Route("OPTIONS", transfers.UPLOAD, transfers.capabilities, access=_OPEN, responses=(_TUS,)),
    Route("GET", transfers.DOWNLOAD, transfers.download, "folder.download", _TOKEN,
          takes=transfers.DownloadUrl, headers=ranges.HEADERS, responses=_DOWNLOADS,
          refuses=(416, 507)),
    Route("GET", "/folders/{name}", folders.info, takes=_NONE, refuses=(507,)),
    Route("DELETE", "/folders/{name}", folders.remove, "folder.delete", takes=_NONE,
          responses=(DONE,), refuses=(507,)),
    Route("POST", "/folders/{name}/rename", folders.rename, "folder.rename",
          takes=folders.RenameFolder, responses=(_EMPTY,), refuses=(507,)),
    Route("POST", "/folders/{name}/update-options", folders.update_options, "folder.change",
          takes=folders.FolderOptions, responses=(_EMPTY,), refuses=(507,)),
    Route("GET POST", "/folders/{name}/files", folder_files.listing,
          takes=folder_files.ListFolderFiles, responses=_FOLDER_LISTING, refuses=(507,)),
    Route("POST", "/folders/{name}/mkdir", folder_files.mkdir, "folder.mkdir",
          takes=folder_files.MakeDirectories, responses=(CREATED,), refuses=(412, 507)),
    _RENAME_FILE,
    replace(_RENAME_FILE, path="/folders/{name}/rename_file"),
    Route("POST", "/folders/{name}/move-file", folder_files.move, "folder.move-file",
          takes=folder_files.MoveFile, responses=(CREATED,), refuses=(412, 507)),
    _REMOVE_FILES,
    replace(_REMOVE_FILES, path="/folders/{name}/delete_files"),
    Route("POST", "/folders/{name}/request-upload", transfers.request_upload,
          "folder.request-upload", takes=transfers.RequestUpload, refuses=(412, 507)),
    Route("POST", "/folders/{name}/request-download", transfers.request_download,
          "folder.request-download", takes=transfers.RequestDownload, refuses=(412, 507)),
)  # fmt: skip

ROUTES = (*_SERVER, *_SESSIONS, *_FOLDERS)
