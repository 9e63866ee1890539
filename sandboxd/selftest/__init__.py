"""Attacks on this installation, to see that they fail: `sandboxd selftest`.

An attack is data (attack.py): a small Python program that tries something and says what came of
it, in the tables files, processes, network, kernel, exhaustion and leftovers. It is run in a
session of its own like anybody's, and judged by what it says, by the verdict of its run and, for
root, by what the host shows of its processes while it waits and when its session is gone (host.py).

No attack can do harm where a layer is missing: it aims at canaries made for it, never at what is
somebody's; what it uses up is bounded by the program itself, well below what would hurt, beside
every limit of the daemon's; and what it tries with system calls are calls with arguments that
change nothing even for root (a bad descriptor, a flag that does not exist, a null pointer).

An attack that did not come to its end counts as unclear, which is no success of ours.
"""
