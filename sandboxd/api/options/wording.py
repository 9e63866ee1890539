"""The wording of an advice for its reader: the name of a limit that this reader's user can type.

The shim writes an advice before anybody reads it, in the terms of the API (shim/advice.py). Here
the phrase "ask for more with NAME" becomes an option of the command line, an option of the official
client, or the parameter of the API with its full name. A limit that is as high as this server
allows gets no name. No I/O.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from ...config.settings import Config
from ...model import Step
from ...runs.console_items import Item
from . import limit_values

_MORE = re.compile(r"ask for more with (limits|resource_opts)\.(\w+)")
_FIELDS = limit_values.RUN_LIMITS | limit_values.RESOURCE_OPTS
"""Names of limits in the texts of the shim -> field of Limits."""

_COMMAND = re.compile(r"a command with options\.(build|exec)")

NO_MORE = "this server allows no more"


class Reader(Enum):
    """The kinds of clients, by the beginning of their User-Agent."""

    COMMAND_LINE = "sandboxd/"
    OFFICIAL = "Backend.AI Client for Python"
    API = ""


@functools.lru_cache(maxsize=64)
def _reader(agent: str) -> Reader:
    return next(reader for reader in Reader if agent.startswith(reader.value))


@dataclass(frozen=True, slots=True)
class Wording:
    """The wording for one reader, with the highest limits of this server."""

    reader: Reader
    config: Config

    @classmethod
    def of(cls, headers: Mapping[str, str], config: Config) -> Wording:
        """The wording for the client that has sent these headers."""
        return cls(_reader(headers.get("user-agent", "")), config)

    def advice(self, text: str, step: Step, session: Mapping[str, Any]) -> str:
        """The advice `text` about `step` in a session with these limits of its own."""

        def named(match: re.Match[str]) -> str:
            field = _FIELDS.get(match[2])
            if field is None:
                return match[0]
            of_session = match[1] == "resource_opts" or field in session
            if self._is_highest(field, step, session, match[1] == "resource_opts"):
                return NO_MORE
            return f"ask for more with {self._name(field, step, of_session)}"

        text = _MORE.sub(named, text)
        if self.reader is Reader.COMMAND_LINE:
            text = text.replace("options.interactive", "--interactive")
        if self.reader is not Reader.API:
            text = _COMMAND.sub(r"a command with --\1", text)
        return text

    def console(self, items: list[Item], step: Step, session: Mapping[str, Any]) -> list[Item]:
        """Console items with the messages of sandboxd in these words."""
        return [
            [kind, [*data[:3], self.advice(data[3], step, session)]]
            if kind == "log"
            else [kind, data]
            for kind, data in items
        ]

    def _is_highest(
        self, field: str, step: Step, session: Mapping[str, Any], is_scratch: bool
    ) -> bool:
        """The limit is as high as it can be; a scratch has a size of its own."""
        if field == "disk" and is_scratch:
            most = self.config.scratch.size
            return bool(limit_values.scratch_size(session.get("disk", most), most) >= most)
        return bool(asdict(step.limits)[field] >= asdict(self.config.ceiling)[field])

    def _name(self, field: str, step: Step, of_session: bool) -> str:
        name = limit_values.client_name(field)
        value = (
            "SECONDS"
            if field in ("wall_s", "cpu_s")
            else "N"
            if field in limit_values.COUNTS
            else "SIZE"
        )
        if self.reader is Reader.COMMAND_LINE:
            if field == "memory":
                return "--mem SIZE"
            is_timeout = field == "wall_s" and step.name == "exec" and not of_session
            return "--timeout SECONDS" if is_timeout else f"--limit {name}={value}"
        if self.reader is Reader.OFFICIAL:
            how = "-r mem=MIB" if field == "memory" else f"--resource-opts {name}={value}"
            return f"{how} in a new session"
        if not of_session and name in limit_values.RUN_LIMITS:
            is_timeout = field == "wall_s" and step.name == "exec"
            return "options.timeout" if is_timeout else f"options.limits.{step.name}.{name}"
        where = "resources" if field == "memory" else "resource_opts"
        return f"config.{where}.{name} in a new session"
