"""Small files of the host that a script of a CI system needs, carried into a session and out of it.

The session does not see them. So a run of its own unpacks them in a directory of /tmp, and another
one packs those that the script may have changed. A hostile script can forge this second tar: it is
read as the server reads archives, the names are compared with the expected ones, and the size of
all files together is bounded.
"""

from __future__ import annotations

import base64
import contextlib
import io
import secrets
import shlex
import tarfile
from collections.abc import Iterable, Mapping

from ...errors import ConfigError, Invalid, Unavailable
from ...files.tar_reader import TarReader
from ..connection.client import Client

SCRIPT = "script"
"""The name of the script among the files."""

ROOM = 1 << 20
"""Bytes of all files together, in each direction."""

WAIT_S = 3600.0
"""Seconds for a run that carries files: it may wait for its turn."""


def new_place() -> str:
    """A directory in a session for the files of one step; no other step has the same."""
    return f"/tmp/.sandboxd-{secrets.token_hex(8)}"


def carry_in(client: Client, session: str, place: str, files: Mapping[str, bytes]) -> None:
    """Make the directory `place` with these files in the session. Raises ConfigError for too many
    bytes, Unavailable when the session cannot take them."""
    if sum(map(len, files.values())) > ROOM:
        raise ConfigError(f"the script and the files of its step have more than {ROOM:,} bytes")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            tar.addfile(member, io.BytesIO(content))
    where = shlex.quote(place)
    command = f"mkdir -p {where} && base64 -d | tar -xf - -C {where}"
    _run(client, session, command, base64.b64encode(packed.getvalue()).decode())


def carry_out(client: Client, session: str, place: str, names: Iterable[str]) -> dict[str, bytes]:
    """The files of these names in the directory `place`, and remove the directory. A file for which
    ROOM has no bytes left, or that is none, is left out."""
    wanted, where = list(names), shlex.quote(place)
    command = f"cd {where} && tar -cf - -- {shlex.join(wanted)}; rm -rf {where}"
    data = _run(client, session, f"({command}) 2>/dev/null; true")
    contents, room = dict[str, bytes](), ROOM
    reader = TarReader(io.BytesIO(data).read)
    with contextlib.suppress(Invalid):  # a program has written to the output, or has no files left
        for member in reader.members():
            if member.kind == "file" and member.name in wanted and member.size <= room:
                contents[member.name] = b"".join(iter(lambda: reader.content(ROOM), b""))
                room -= member.size
    return contents


def remove(client: Client, session: str, place: str) -> None:
    """Remove the directory `place`."""
    _run(client, session, f"rm -rf {shlex.quote(place)} 2>/dev/null; true")


def _run(client: Client, session: str, command: str, stdin: str = "") -> bytes:
    """The standard output of a short run."""
    options = {"exec": command, "stdin": stdin, "wait": WAIT_S, "console": "base64"}
    call = {"mode": "batch", "code": "", "options": options}
    output = b""
    while True:
        result = client.call("POST", f"/session/{session}", call, timeout=None)["result"]
        output += b"".join(
            base64.b64decode(data) for kind, data in result["console"] if kind == "stdout"
        )
        if result["status"] == "finished" or len(output) > 4 * ROOM:
            break
        if result["status"] != "continued":
            raise Unavailable(f"the files of the step were not carried: {result['status']}")
        more = {"wait": WAIT_S, "console": "base64", "offset": result["offset"]}
        call = {"mode": "continue", "code": "", "runId": result["runId"], "options": more}
    if result["exitCode"]:
        raise Unavailable(
            f"the files of the step were not carried (exit code {result['exitCode']}); has the "
            "session room in /tmp?"
        )
    return output
