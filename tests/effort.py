"""The effort of the tests with random input: the examples that each of them tries.

The environment variable FUZZ sets it. 400 is the effort of the whole suite; scripts/check takes
less, scripts/fuzz more.
"""

from __future__ import annotations

import os

FUZZ = int(os.environ.get("FUZZ", "400"))


def examples(count: int) -> int:
    """`count` at the effort of the whole suite, and in proportion to FUZZ otherwise."""
    return max(3, count * FUZZ // 400)
