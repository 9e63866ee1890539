"""The restrictions on one process. Standard library only; imports nothing else of sandboxd
but `errors` and `model`. One kernel mechanism a module, each with `apply` and `verify`;
`enter.py` is the ordered list."""
