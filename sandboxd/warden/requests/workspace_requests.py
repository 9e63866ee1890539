"""The request about workspaces: grant."""

from __future__ import annotations

from typing import Any

from ...errors import Invalid, StageError, Unavailable
from ..background import BackgroundJobs
from ..shared_resources import Resources
from ..slots import workspaces
from .replies import PendingReply, Result


class WorkspaceRequests:
    """Grants workspaces."""

    def __init__(self, resources: Resources, jobs: BackgroundJobs) -> None:
        self._store = resources.workspaces
        self._jobs = jobs

    def grant(self, reply: PendingReply, session: str, path: str, place: str, peer: int) -> None:
        """Grant the directory `path` to a session of the user at the other end of the connection
        `peer`. A background job looks at it, with the rights of this user. Raises Invalid,
        StageError."""
        user = workspaces.user_of(peer, self._store.listeners)
        if not (user.ids.uid and user.ids.gid):
            raise Invalid("root, as a user or as a group, has no workspaces: call as another user")
        self._store.key()  # made here, since two jobs at once would make two

        def work() -> dict[str, Any]:
            try:
                granted = self._store.grant(session, path, place, user)
                return {"uid": granted.uid, "gid": granted.gid, "seal": granted.seal}
            except (Invalid, StageError) as error:
                return {"refusal": str(error), "is_invalid": isinstance(error, Invalid)}

        def done(result: dict[str, Any] | None) -> None:
            if result is None:
                reply.refuse(StageError(workspaces.STAGE, "the background job has failed"))
            elif "refusal" in result:
                kind = Invalid if result["is_invalid"] else Unavailable
                reply.refuse(kind(result["refusal"]))
            else:
                reply.succeed(Result(result))

        self._jobs.begin("grant workspace", work, done, [])
