"""What programs a host can run, under the names that clients use for it.

A runtime is data: aliases, the tools that it cannot do without, and one shell text each for
the "*" of clean, build and exec. It is made in three steps, all of them at start:

    builtin.py   the table of the runtimes that sandboxd knows (its shell texts: commands.py)
    catalogue.py what the configuration adds, replaces or hides
    tools.py     which tools a program in the jail would find; a runtime that misses one is
                 absent, and the reason is kept for whoever asks for it

After that `Runtimes` only compares names (images.py), so a client's text never reaches the
file system or a shell. Nothing is started: which version a tool has is the host's affair, and
a tag that asks for another (python:3.6) gets the one that there is. A tool installed later
is seen after a restart.
"""

from __future__ import annotations

from .catalogue import Runtimes, load
from .detect import detect
from .values import Description, Runtime

__all__ = ["Description", "Runtime", "Runtimes", "detect", "load"]
