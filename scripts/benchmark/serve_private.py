"""A private daemon with a configuration of its own, for one benchmark.

`sandboxd run --private` has one fixed configuration. The benchmark needs others: more slots, a TCP
listener, no warm sessions. Runs end with this daemon, as with every private one.

    python -m scripts.benchmark.serve_private FOLDER
"""

from __future__ import annotations

import functools
import sys

from sandboxd import config_file
from sandboxd.warden.startup import serve


def main(folder: str) -> int:
    """Be the daemon of FOLDER/config.toml until SIGTERM; its exit status."""
    read = functools.partial(config_file.load, f"{folder}/config.toml")
    return serve(read(), read, private=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
