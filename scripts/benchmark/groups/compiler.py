"""The time of a compiler, inside of a run and outside: a C program of some functions."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from functools import partial

from ..bench import Bench, interleaved
from ..connection import Connection
from ..daemon import WARM
from ..rows import Measured, Row
from ..sandboxes import Act
from ..summary import ratio

_FUNCTION = """
int f{n}(int *values, int count) {{
    int sum = {n};
    for (int i = 0; i < count; i++)
        sum = sum * 31 + (values[i] % 7 ? values[i] << 3 : printf("%d", values[i]));
    return sum;
}}
"""
SOURCE = "\n".join(
    ["#include <stdio.h>", "#include <stdlib.h>", "#include <string.h>"]
    + [_FUNCTION.format(n=n) for n in range(60)]
    + ["int main(void) { int v[] = {1, 2, 3}; return f1(v, 3) == 0; }"]
)


def measure(bench: Bench) -> Measured:
    """The row, if this host has a C compiler."""
    if (cc := shutil.which("cc") or shutil.which("gcc")) is None:
        return Measured([Row("compile", "a C program", note="this host has no C compiler")])
    with tempfile.TemporaryDirectory() as folder, bench.daemon(WARM).connect() as connection:
        with open(f"{folder}/program.c", "w", encoding="utf-8") as file:
            file.write(SOURCE)
        session = connection.create(memory="512m")
        send_file(connection, session, "program.c", SOURCE.encode())
        command = [cc, "-O2", "-o", "program", "program.c"]
        acts: dict[str, Act] = {
            "outside": partial(subprocess.run, command, cwd=folder, check=True),
            "inside": partial(connection.run, session, " ".join(command)),
        }
        times = interleaved(
            acts, bench.amount.repetitions, lambda text: bench.progress.show(f"compile: {text}")
        )
        connection.delete(session)
    value = ratio(times["inside"], times["outside"])
    return Measured(
        [
            Row("compile-outside", "a C program, compiled outside", times["outside"]),
            Row("compile", "a C program, compiled inside", times["inside"], value, "x outside"),
        ]
    )


def send_file(connection: Connection, session: str, name: str, content: bytes) -> None:
    """Upload one file into the working directory."""
    boundary = os.urandom(16).hex()
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="src"; filename="{name}"\r\n\r\n'
    body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
    kind = f"multipart/form-data; boundary={boundary}"
    connection.send("POST", f"/session/{session}/upload", body, kind)
