"""The restrictions on one process. One kernel mechanism a module, each with `apply` and `verify`;
`enter.py` is the ordered list. Imports the standard library, and of sandboxd the shared modules
`cgroup_settings`, `cgroupfs`, `errors` and `model`."""
