"""The self-test: attacks on this installation that must fail. `sandboxd selftest`

An attack is data (attack.py): a small Python program that tries something and prints the result.
The tables are in attacks/; protections/ names the protections that each attack fails because of.
runner.py carries an attack out in a session of its own, as any client would. The judgement goes by
what the program prints, by the verdict of its run, and, for root, by what the host shows of its
processes while it waits and after its session is gone (host_view.py).

No attack can do harm where a protection is missing. It aims at canaries of its own, never at
the files or processes of others. The program itself bounds its use of resources, well below harm,
beside every limit of the daemon. Its system calls have arguments that change nothing even for root:
a bad descriptor, a flag that does not exist, a null pointer.

An attack that did not come to its end is unclear, which does not count as held.
"""
