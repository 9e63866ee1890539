"""A daemon that runs other people's programs on one Linux host, each session in its own jail."""

__version__ = "0.1.0"
