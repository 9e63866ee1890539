"""The keys of requests that this server does not serve: ignored, or refused by their names. No I/O.

A client that sends a key expects an effect, so a key without any is refused. Official clients send
some keys although their user has asked for nothing. Such a key is ignored while its value is null,
empty, or one of UNASKED.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...errors import Invalid

UNASKED: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "CreateSession": {
        **dict.fromkeys(("domain", "domainName", "domain_name"), ("default",)),
        **dict.fromkeys(("group", "groupName", "group_name"), ("default",)),
        **dict.fromkeys(("clusterMode", "cluster_mode"), ("single-node",)),
    },
    "SessionSettings": {"clusterSize": (1,)},
    "CreateFolder": {"cloneable": (False,)},
    "FolderOptions": {"cloneable": (False,)},
    "ListFolders": {"all": (False,)},
    "mount_options": {"type": ("bind",)},
}
"""Parameters of a request, by the name of their class -> key -> values that clients send unasked.

Recorded from backend.ai-client 23.9.10, 24.3.0rc2 and 26.9.6 for Python, and 21.3.1 for Node.js.
tests/api/recorded.json has the requests, and the tests send all of them."""


EMPTY: tuple[Any, ...] = (None, "", [], {})
"""The values that ask for nothing."""


NAMED_MAX = 10
"""Keys that a refusal names. Each has the list of all known names, so one for each of a hundred
thousand keys would be a response of many megabytes."""


def is_empty(value: Any) -> bool:
    """The value asks for nothing."""
    return _is_one_of(value, EMPTY)


def check(values: Mapping[str, Any], kind: str, known: Iterable[str], where: str = "") -> None:
    """Raise Invalid for the keys of `values` that ask for something, each with its name below
    `where`. None of them is served; the `known` names are those that are."""
    unasked = UNASKED.get(kind, {})
    refused = [
        key
        for key, value in values.items()
        if not is_empty(value) and not _is_one_of(value, unasked.get(key, ()))
    ]
    if refused:
        names = ", ".join(sorted(known))
        allowed = f"unknown here; known are {names}" if names else "unknown here; nothing is known"
        named = {f"{where}.{_printable(key)}".strip("."): allowed for key in refused[:NAMED_MAX]}
        more = len(refused) - NAMED_MAX
        raise Invalid.of(named if more <= 0 else named | {"more": f"{more} further unknown names"})


def _is_one_of(value: Any, values: tuple[Any, ...]) -> bool:
    return any(type(value) is type(one) and value == one for one in values)


def _printable(key: str) -> str:
    """The key as a problem document can have it."""
    return key.encode("utf-8", "backslashreplace").decode()[:64]
