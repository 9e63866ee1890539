"""The terminal of an interactive exec: a pseudo-terminal of the jail as standard input and output.

A program at a terminal prints its prompt before it waits. With pipes, C, Perl, Ruby and awk keep
the prompt in a buffer of the program. Standard error stays a pipe, so clients can distinguish it
from standard output.

The user is a client that sends whole lines. The settings of the terminal (termios(3)) are therefore
not those of a person at a keyboard:

    no echo          The client shows what its user types. Output has the program's bytes alone.
    no translation   A newline stays a newline, in output and input.
    no signals       Ctrl-C in the input is a byte. A client sends signals by a request.
    no editing       No byte of the input removes others, and none stops the output.
    lines            The program reads line by line; the kernel cuts a line after 4095 bytes.
    Ctrl-D           The byte 4 is the end of input, because the kernel knows no other form.

A program may change these settings. It deceives only itself.

A terminal has no end of input that lasts: after Ctrl-D the next read waits again. The end of input
is therefore END_MARKS times Ctrl-D.
"""

from __future__ import annotations

import contextlib
import os
import select
import termios

from ..jail.stage import expect, stage
from .stdin import Stdin
from .terminal import IUTF8, open_pair

END_MARKS = 64
"""How often programs can read the end of input. Each of several programs of the step may read it,
and some read it more than once."""

_CTRL_D = b"\x04"
_UNSET = b"\0"  # _POSIX_VDISABLE: no byte has this function


class TerminalStdin(Stdin):
    """The terminal, as the standard input of a step. `child` is its other side, of which the shim
    has a copy until the end."""

    end_marks = _CTRL_D * END_MARKS

    def _open(self) -> tuple[int, int]:
        master, slave, self.path = open_pair()
        with stage("terminal"):
            _configure(slave)
        return slave, master

    def _names(self) -> set[str]:
        return {self.path, "/dev/tty"}

    def output(self) -> int:
        """A new descriptor, not blocking, from which the output of the programs can be read."""
        assert self.fd is not None, "the step has begun"
        return os.dup(self.fd)

    def _is_empty(self) -> bool:
        # FIONREAD does not see input that the kernel has yet to divide into lines; poll(2) waits
        # for that. After a hang-up, at the end of the step, it says that there is an event.
        poll = select.poll()
        poll.register(self.child, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Have the programs read the end of their input."""
        if self.fd is not None and not self._ending:
            with contextlib.suppress(OSError):  # full, or no process has the terminal any more
                os.write(self.fd, self.end_marks)
        super().close()

    def finish(self) -> None:
        """Close everything, after the step."""
        super().finish()
        os.close(self.child)


def _configure(slave: int) -> None:
    """Make the settings that the top of this file describes."""
    _, _, control, _, *speeds, keys = termios.tcgetattr(slave)
    keys = [_UNSET if isinstance(key, bytes) else key for key in keys]
    keys[termios.VEOF] = _CTRL_D
    attributes = [IUTF8, 0, control, termios.ICANON, *speeds, keys]
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    expect("terminal", "settings", termios.tcgetattr(slave)[:4], attributes[:4])
