"""The resources of one warden: its configuration, slots, scratches, folders and cgroups."""

from __future__ import annotations

import contextlib
import os

from ..config.settings import Config
from ..errors import ConfigError, Invalid, SandboxdError, Unavailable
from ..host.tmpfs import size_in_memory
from ..jail import namespaces, seccomp
from ..jail.cgroup import Group
from ..jail.enter import Jail
from ..jail.mounts import FolderMount
from .host_files import HostFiles
from .runs.cgroups import Hierarchy
from .slots.folders import FolderStore
from .slots.scratch import ScratchMaker
from .slots.slots import Slot, Slots
from .slots.workspaces import WorkspaceStore


class Resources:
    """All that the acts of the warden work with.

    tied     runs end with this daemon
    host_files  the copy of files of the host that jails show
    root     an empty directory on which a process builds the root of its own mount namespace
    outside  the namespaces of the host, which a jail must have left
    filter   the system call filter of all runtimes; `filters` has the exceptions
    workspace_filters  the filters of sessions with a workspace; `filter` is not among them
    """

    def __init__(self, config: Config, hierarchy: Hierarchy, tied: bool = False) -> None:
        self.config = config
        self.tied = tied
        self.hierarchy = hierarchy
        self.slots = Slots(config.slots, config.state_dir)
        self.scratch = ScratchMaker(config.scratch, config.state_dir)
        self.folders = FolderStore(config.state_dir)
        self.workspaces = WorkspaceStore(lambda: self.config.workspaces.paths, config.state_dir)
        self.root = f"{config.state_dir}/root"
        self.outside = namespaces.current()
        self.filter = seccomp.compile()
        self.filters = compile_filters(config)
        self.workspace_filters = compile_workspace_filters(config)
        self._jail: Jail | None = None
        os.makedirs(self.root, mode=0o700, exist_ok=True)
        self.host_files = HostFiles(config)

    def renew(self, config: Config) -> None:
        """Use another configuration from now on, but for the fields in toml_file.RESTART.

        Raises ConfigError when it cannot be used; then the old one stays.
        """
        filters = compile_filters(config)
        workspace_filters = compile_workspace_filters(config)
        self.host_files.select(config)
        self.filters, self.workspace_filters = filters, workspace_filters
        self.config = config

    def jail(self) -> Jail:
        """The parts that all runs have in common at this moment: the same value as long as nothing
        of them changes."""
        view = self.host_files.current()
        filters = {"": self.filter} | self.filters
        jail = Jail(
            self.root, self.config.rootfs.paths, view, (self.outside,), filters,
            self.workspace_filters,
        )  # fmt: skip
        if jail != self._jail:
            self._jail = jail
        return self._jail

    def folders_of(self, slot: Slot, stack: contextlib.ExitStack) -> tuple[FolderMount, ...]:
        """The workspace and the folders of a slot as parts of a root; `stack` closes their
        descriptors. Raises Unavailable, StageError."""
        return (*self.workspaces.clones(slot, stack), *self.folders.clones(slot, stack))

    def files_in_memory(self, slot: Slot) -> int:
        """Bytes of all files of the file systems of a slot that are in memory: of its scratch, and
        of the tmpfs that its workspace is on."""
        scratch = size_in_memory(slot.scratch)
        with contextlib.suppress(SandboxdError), contextlib.ExitStack() as stack:
            return scratch + sum(map(size_in_memory, self.workspaces.opened(slot, stack)))
        return scratch

    def groups(self) -> dict[str, Group]:
        """The groups of all runs, by name."""
        return {group.name: group for group in self.hierarchy.groups()}

    def leased(self, number: int, session: str) -> Slot:
        """Slot `number`, which must be leased to `session`. Raises Invalid.

        A request that was under way when its session ended must not meet the next tenant.
        """
        slot = self.slots.leased.get(number)
        if slot is None or not slot.ready or slot.session != session:
            raise Invalid(f"slot {number} is not leased to this session")
        return slot

    def usable(self, number: int, session: str) -> Slot:
        """As `leased`, for a request that needs the slot to stay. Raises Unavailable too."""
        slot = self.leased(number, session)
        if slot.releasing:
            raise Unavailable(f"slot {number} is being released")
        return slot


def compile_workspace_filters(config: Config) -> dict[str, seccomp.Filter]:
    """Runtime -> system call filter of sessions with a workspace; "" for the others. None, where no
    session can have one: a filter that is missing stops the run. Raises ConfigError."""
    if not config.workspaces.paths:
        return {}
    return {"": seccomp.compile(set_id=False)} | compile_filters(config, set_id=False)


def compile_filters(config: Config, set_id: bool = True) -> dict[str, seccomp.Filter]:
    """Runtime -> system call filter, for runtimes with one of their own. Raises ConfigError."""
    filters = {}
    for name, runtime in config.runtimes.items():
        if runtime.seccomp_allow or runtime.seccomp_refuse:
            try:
                filters[name] = seccomp.compile(
                    runtime.seccomp_allow, runtime.seccomp_refuse, set_id
                )
            except ConfigError as error:
                raise ConfigError(f"runtimes.{name}.seccomp_*: {error}") from None
    return filters
