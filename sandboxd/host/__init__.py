"""The host, as the kernel shows it: /proc, cgroup files, processes, memory, tasks, free space.

`cgroupfs` and `procfs` read and write files of the kernel, and no other module does so for cgroups.
`cgroup_settings` says what is written into a cgroup, and `cgroup_places` finds cgroups.
`mountinfo` lists the mounts of a process, and `tmpfs` knows files in memory. `pidfds` and
`unix_peer` name processes. `memory`, `tasks` and `free_space` are the amounts that the host has.
`uptime` is the clock that nobody sets.
"""
