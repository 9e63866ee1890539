"""The names of sessions, folders and their files on the command line: REF and REF:PATH."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from ...errors import NotFound
from .client import Client


def session_path(ref: str) -> str:
    """The path of requests for the session of this name or UUID."""
    return f"/session/{_quoted(ref)}"


def folder_path(name: str) -> str:
    """The path of requests for the virtual folder of this name or UUID."""
    return f"/folders/{_quoted(name)}"


def _quoted(name: str) -> str:
    """`name` as a part of a path; bytes that are not UTF-8 go as they are."""
    return quote(name, safe="", errors="surrogateescape")


def session_facts(client: Client, ref: str) -> dict[str, Any]:
    """The description of the session. Raises NotFound with the remedy."""
    try:
        facts: dict[str, Any] = client.call("GET", session_path(ref))
    except NotFound:
        text = f"there is no session {ref}; 'sandboxd ps' lists the sessions"
        raise NotFound("session", text) from None
    return facts


def remote(text: str) -> tuple[str, str] | None:
    """The parts of REF:PATH; None for the name of a local file, which has a slash before its first
    colon, or no colon."""
    ref, colon, path = text.partition(":")
    return (ref, path) if colon and ref and "/" not in ref else None
