"""The values of GraphQL's fields, and the execution of a query. No I/O.

This module alone loads graphql-core, which takes as long as half of all other imports of the api.
So gql.py imports it at the first query: most daemons never get one.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from graphql import (
    ExecutionResult,
    GraphQLError,
    NoSchemaIntrospectionCustomRule,
    execute_sync,
    parse,
    specified_rules,
    validate,
)

from ...store.folders import FolderRow
from ...store.sessions import SessionRow
from ..state import AppState
from . import gql_items as items
from .folders import described
from .gql_items import Item
from .gql_schema import SCHEMA

TOKENS_MAX = 1000
ERRORS_MAX = 10
PAGE_MAX = 100
"""Items of a list in one answer."""
STATUSES_MAX, KEYS_MAX = 64, 8
"""Statuses that a query names, and keys of an order. The official clients name up to 20 statuses,
and one key."""
WORD_MAX = 64
"""Characters of each on average: a mistake repeats them."""

UsedSession = tuple[SessionRow, float, int]
"""A session with its last use and the number of requests for it."""

_RULES = (*specified_rules, NoSchemaIntrospectionCustomRule)


def answer(
    query: str, variables: dict[str, Any], operation_name: str | None, root: Root
) -> ExecutionResult:
    """The result of a query; its mistakes are in `errors`. Raises what is no mistake of it."""
    try:
        document = parse(query, no_location=True, max_tokens=TOKENS_MAX)
    except GraphQLError as error:
        return ExecutionResult(None, [error])
    if errors := validate(SCHEMA, document, _RULES, max_errors=ERRORS_MAX):
        return ExecutionResult(None, errors)
    result = execute_sync(SCHEMA, document, root, None, variables, operation_name)
    for fault in result.errors or ():
        if fault.original_error and not isinstance(fault.original_error, GraphQLError):
            raise fault.original_error
    return result


@dataclass(frozen=True, slots=True)
class Root:
    """The values of the fields of Query, for one request.

    acts_for  the owner that the request acts for
    is_admin  the caller may name another owner
    sees      the owner whose sessions and folders a field shows if it names none; None: all owners
    live      sessions that are not over, with their last use and number of requests
    folders   all folders, oldest first; like `live`, as the request begins, since the event
              loop changes its registries while a thread executes the query
    """

    app: AppState
    acts_for: str
    is_admin: bool
    sees: str | None
    own_keypair: Item
    live: Sequence[UsedSession]
    folders: Sequence[FolderRow]
    _lists: dict[tuple[str | None, bool], Mapping[str, UsedSession]] = field(default_factory=dict)
    _items: dict[str, Item] = field(default_factory=dict)

    def keypair(self, _: Any, access_key: str | None = None, **__: Any) -> Item | None:
        """The caller's own keypair."""
        return self.own_keypair if access_key in (None, self.acts_for) else None

    def compute_session(self, _: Any, id: Any) -> Item | None:
        """One session, also one that is over. Raises GraphQLError."""
        try:
            wanted = str(uuid.UUID(id))
        except (ValueError, TypeError, AttributeError):
            raise GraphQLError("id is not a UUID") from None
        pair = self._rows(self.sees, ended=True).get(wanted)
        return self._session(pair) if pair else None

    def compute_container(self, _: Any, id: Any) -> Item | None:
        """The container of a session."""
        session = self.compute_session(_, id)
        return session["containers"][0] if session else None

    def compute_session_list(
        self, _: Any, limit: int, offset: int, status: str | None = None,
        access_key: str | None = None, **rest: Any,
    ) -> Item:  # fmt: skip
        """The sessions with one of the statuses, a list with commas; newest first."""
        words = _words(status.upper(), STATUSES_MAX, "status") if status else ()
        wanted = frozenset(words)
        whose = self._named(access_key) or self.sees
        pairs = self._rows(whose, ended=not wanted or "TERMINATED" in wanted).values()
        chosen = [pair for pair in pairs if not wanted or pair[0].status in wanted]
        return _page(chosen, self._session, limit, offset, **rest)

    def vfolder_list(
        self, _: Any, limit: int, offset: int, access_key: str | None = None, **rest: Any
    ) -> Item:
        """The folders of the owners whom the caller sees, oldest first."""
        whose = self._named(access_key) or self.sees
        rows = [row for row in self.folders if whose in (None, row.owner)]
        return _page(rows, lambda row: dict(described(row)), limit, offset, **rest)

    def vfolder_own_list(self, _: Any, access_key: str | None = None, **rest: Any) -> Item:
        """The owner's folders."""
        return self.vfolder_list(_, access_key=access_key or self.acts_for, **rest)

    def vfolder_invited_list(self, _: Any, limit: int, offset: int, **__: Any) -> Item:
        """No folders: they cannot be shared."""
        return _page([], Item, limit, offset)

    vfolder_project_list = vfolder_invited_list

    def _named(self, access_key: str | None) -> str | None:
        """The owner that a field names, if the caller may name it. Raises GraphQLError."""
        if access_key not in (None, self.acts_for) and not self.is_admin:
            raise GraphQLError("only admins can look at what belongs to another owner")
        return access_key

    def _session(self, pair: UsedSession) -> Item:
        """A session as an object. A request makes each once, however many of its fields show it."""
        id = pair[0].id
        if id not in self._items:
            self._items[id] = items.session(*pair, self.app.config)
        return self._items[id]

    def _rows(self, whose: str | None, ended: bool) -> Mapping[str, UsedSession]:
        """Sessions by UUID, newest first, those that are over only if `ended`. A request reads each
        list once."""
        if (whose, ended) in self._lists:
            return self._lists[whose, ended]
        pairs = {pair[0].id: pair for pair in self.live if whose in (None, pair[0].owner)}
        if ended:  # a session that has ended since `live` was read counts as ended
            pairs |= {
                row.id: (row, row.used_at, row.runs) for row in self.app.sessions.ended_rows(whose)
            }
        newest = sorted(pairs.items(), key=lambda entry: -entry[1][0].created_at)
        self._lists[whose, ended] = dict(newest)
        return self._lists[whose, ended]


Row = TypeVar("Row")


def _page(
    rows: Sequence[Row], described: Callable[[Row], Item], limit: int, offset: int,
    filter: str | None = None, order: str | None = None, **_: Any,
) -> Item:  # fmt: skip
    """A part of a list, in the `order` of some fields: "name" or "+name", "-created_at", with
    commas between. Raises GraphQLError."""
    if filter:
        raise GraphQLError("filter is not offered: leave it out")
    if not 0 <= limit <= PAGE_MAX or offset < 0:
        raise GraphQLError(f"limit must be 0 to {PAGE_MAX}, offset 0 or more")
    if not order:
        page = [described(row) for row in rows[offset : offset + limit]]
        return {"items": page, "total_count": len(rows)}
    descends: dict[str, bool] = {}
    for key in _words(order, KEYS_MAX, "order"):
        descends.setdefault(key.lstrip("+-"), "-" in key)
    items = [described(row) for row in rows]
    for name in reversed(descends):
        if any(not isinstance(item.get(name, []), (str, int, type(None))) for item in items):
            raise GraphQLError(f"a list cannot have the order of {name!r}")
        items.sort(key=lambda item: str(item[name] or ""), reverse=descends[name])
    return {"items": items[offset : offset + limit], "total_count": len(items)}


def _words(text: str, most: int, argument: str) -> Sequence[str]:
    """The words of a list with commas. Raises GraphQLError for a list that is too long: each word
    is work for each item."""
    if len(text) > most * WORD_MAX or text.count(",") >= most:
        raise GraphQLError(f"{argument} must have {most} words with commas between at most")
    return [word.strip() for word in text.split(",")]
