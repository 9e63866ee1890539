"""The runtimes of a host: the programs that it can run, by the names that clients use.

A runtime is data: aliases, the tools that it needs, and one shell text each for the "*" of clean,
build and exec. Runtimes are made in three steps, all at start:

    builtin.py    the table of the runtimes that sandboxd knows (its shell texts: commands.py), with
                  compiled_languages.py, machine_languages.py and scripted_languages.py
    catalogue.py  the runtimes that the configuration adds, changes or hides
    tools.py      the search for tools that a program in the jail can use; a runtime without one of
                  its tools is not available, and its description has the reason

Afterwards `Runtimes` only compares names (image_names.py), so the text of a client never reaches
the file system or a shell. No tool is started: the host decides the version of a tool, and a tag
for another version (python:3.6) gets the version of the host. A tool that is installed later is
seen after a restart.
"""

from __future__ import annotations

from .builtin import ADDITIONAL
from .catalogue import Runtimes, load, shown_paths
from .detect import detect
from .values import Description, Runtime

__all__ = ["ADDITIONAL", "Description", "Runtime", "Runtimes", "detect", "load", "shown_paths"]
