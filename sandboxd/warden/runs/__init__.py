"""The runs of the slots: directories, cgroups, and the processes that work for them."""
