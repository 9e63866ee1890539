"""The absence of Pygments from a production environment, for the commands that the tests start.

With Pygments and rich, which schemathesis brings, httpx loads a command line of its own: a fifth of
the CPU time of a command of sandboxd.
"""

raise ImportError("only the tests install it")
