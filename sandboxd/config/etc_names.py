"""The names below /etc that every jail shows, if the host has them."""

from __future__ import annotations

ETC = (
    "alternatives", "debian_version", "fonts", "inputrc", "java-*-openjdk", "ld.so.cache",
    "ld.so.conf", "ld.so.conf.d", "localtime", "lsb-release", "magic", "mime.types", "os-release",
    "protocols", "services", "shells", "ssl/certs", "ssl/openssl.cnf", "terminfo", "timezone",
)  # fmt: skip
"""Names below /etc that programs of many languages read, changed or not: no secret belongs there.
Some are made on the host, so no package has their checksum."""

ETC_UNCHANGED = ("bash.bashrc", "perl", "php", "profile", "profile.d", "python3")
"""Names below /etc of which only the files are shown that are as their package has installed them;
all of them on a host whose package manager is not dpkg."""
