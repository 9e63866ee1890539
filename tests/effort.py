"""The effort of the tests with random input: the examples that each of them tries.

The environment variable FUZZ sets it. The numbers of examples in the tests are those of 400, the
effort of scripts/test-world; scripts/check and scripts/test take less, scripts/fuzz more.
"""

from __future__ import annotations

import os

FUZZ = int(os.environ.get("FUZZ", "400"))


def examples(count: int) -> int:
    """`count` at the effort 400, and in proportion to FUZZ otherwise."""
    return max(3, count * FUZZ // 400)
