"""The checks of a request: its caller, its owner, its rate, its parameters, and its origin."""
