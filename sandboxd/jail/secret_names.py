"""The names below /etc and /var/lib that no copy for jails has, whatever their mode and checksum.

This list is one wall more. An unchanged file of a package has no secret of this host. But a package
of an operator's own may ship a password, and a key may lie readable in a directory that is shown.
"""

from __future__ import annotations

import fnmatch
import re

PLACES = (
    "/etc/shadow", "/etc/gshadow", "/etc/shadow-", "/etc/gshadow-", "/etc/passwd-", "/etc/group-",
    "/etc/subuid", "/etc/subgid", "/etc/security/opasswd", "/etc/sudoers", "/etc/sudoers.d",
    "/etc/ssh", "/etc/ssl/private", "/etc/pki/tls/private", "/etc/krb5.keytab", "/etc/letsencrypt",
    "/etc/ipsec.d", "/etc/ipsec.secrets", "/etc/wireguard", "/etc/openvpn", "/etc/ppp",
    "/etc/wpa_supplicant", "/etc/NetworkManager/system-connections", "/etc/docker",
    "/etc/kubernetes", "/etc/sandboxd", "/var/lib/dpkg", "/var/lib/private", "/var/lib/sandboxd",
)  # fmt: skip

NAMES = (
    "*.jks", "*.kdb*", "*.key", "*.keytab", "*.old", "*.ovpn", "*.p12", "*.pfx", "*.ppk",
    "*auth.conf*", "*credential*", "*htpasswd*", "*key.pem", "*_key", "*netrc*", "*passphrase*",
    "*passwd*", "*password*", "*pgpass*", "*private*", "*secret*", "*shadow*", "*token",
    "*token.*", "*tokens", "*tokens.*",
    "*.dpkg-*", "*.ucf-*", "*~", "id_*sa", "id_ed25519*",
)  # fmt: skip
"""Any component: names that keys and passwords have, and copies of files that somebody changed."""

_PLACES = tuple(f"{place}/" for place in PLACES)
_NAMES = re.compile("|".join(map(fnmatch.translate, NAMES)), re.IGNORECASE)


def is_secret(path: str) -> bool:
    """`path` is in a place of secrets, or has the name of one."""
    return f"{path}/".startswith(_PLACES) or any(map(_NAMES.match, path.split("/")))
