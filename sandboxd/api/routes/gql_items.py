"""Sessions, keypairs and folders as GraphQL objects: plain dictionaries by field. No I/O.

A session has one kernel and one container here, and they share its UUID.
"""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from ...config.settings import Config
from ...store.keypairs import Keypair
from ...store.sessions import SessionRow

Item = dict[str, Any]

_LAST = datetime(9999, 12, 31, tzinfo=UTC).timestamp()


def iso(at: float | None) -> str | None:
    """Seconds since 1970 as the clients read times; the last one that has such a form for later
    ones, which a configuration without an end of sessions may give."""
    return None if at is None else datetime.fromtimestamp(min(at, _LAST), UTC).isoformat()


def session(row: SessionRow, used_at: float, requests: int, config: Config) -> Item:
    """A session; `used_at`: seconds since 1970 of the last of so many `requests` for it."""
    slots = _slots(row, config)
    item = _common(row, config) | {
        "session_id": row.id,
        "main_kernel_id": row.id,
        "tag": row.tag or None,
        "name": row.name,
        "type": row.type,
        "cluster_mode": "single-node",
        "cluster_size": 1,
        "domain_name": "default",
        "group_name": "default",
        "agent_ids": ["local"],
        "user_email": row.owner,
        "full_name": row.owner,
        "user_id": row.owner,
        "access_key": row.owner,
        "created_user_email": row.owner,
        "created_user_id": row.owner,
        "status_history": json.dumps({status: iso(at) for status, at in row.history.items()}),
        "scheduled_at": iso(row.created_at),
        "startup_command": row.startup_command or None,
        "bootstrap_script": row.bootstrap_script or None,
        "result": row.result,
        "requested_slots": slots,
        "occupying_slots": slots,
        "service_ports": "[]",
        "mounts": [attachment.name for attachment in row.mounts],
        "vfolder_mounts": [attachment.folder for attachment in row.mounts],
        "num_queries": requests,
        "cpu_used": row.usage.get("cpu_ms", 0),
        "mem_max_bytes": row.usage.get("mem_peak", 0),
        "dependencies": [],
        "abusing_reports": [],
        "idle_checks": json.dumps(idle_checks(row, used_at, config)),
    }
    return item | {"containers": [container(row, config)]}


def container(row: SessionRow, config: Config) -> Item:
    """The one container of a session."""
    used = {name: str(value) for name, value in row.usage.items()}
    return _common(row, config) | {
        "session_id": row.id,
        "cluster_role": "main",
        "cluster_idx": 1,
        "cluster_hostname": "main1",
        "local_rank": 0,
        "agent": "local",
        "container_id": row.id,
        "preopen_ports": [],
        "last_stat": json.dumps(used) if used else None,
    }


def _common(row: SessionRow, config: Config) -> Item:
    """The fields of both session and container."""
    limits = asdict(config.limits.exec) | row.limits
    return {
        "id": row.id,
        "image": row.image,
        "architecture": platform.machine(),
        "registry": row.image.rpartition("/")[0],
        "status": row.status,
        "status_info": row.status_info or None,
        "status_data": json.dumps(_data(row)),
        "status_changed": iso(max(row.history.values(), default=row.created_at)),
        "created_at": iso(row.created_at),
        "terminated_at": iso(row.history.get("TERMINATED")),
        "resource_opts": json.dumps({"shmem": limits["shm"]}),
        "occupied_slots": _slots(row, config),
    }


def _data(row: SessionRow) -> Item:
    """The result of the startup command, for the field status_data."""
    return {} if row.exit_code is None else {"exit_code": row.exit_code}


def _slots(row: SessionRow, config: Config) -> str:
    """The session's resources, as JSON; nothing once it is over."""
    if row.slot is None:
        return "{}"
    limits = asdict(config.limits.exec) | row.limits
    return json.dumps({"cpu": str(limits["cpus"]), "mem": str(limits["memory"])})


def idle_checks(row: SessionRow, used_at: float, config: Config) -> Item:
    """The time at which an unused session ends."""
    if not config.sessions.idle_s or row.slot is None:
        return {}
    return {"timeout": {"ends_at": iso(used_at + config.sessions.idle_s)}}


def keypair(owner: str, row: Keypair | None, is_admin: bool, sessions: int, rate: int) -> Item:
    """The keypair of `owner`; None: it has none, and uses the Unix socket.

    The secret key is not in it: only its creation shows it.
    """
    return {
        "user_id": owner,
        "user_info": {"email": owner, "full_name": owner},
        "full_name": owner,
        "projects": ["default"],
        "access_key": owner,
        "is_active": True,
        "is_admin": is_admin,
        "created_at": iso(row.created_at) if row else None,
        "modified_at": iso(row.created_at) if row else None,
        "last_used": iso(row.last_used) if row else None,
        "resource_policy": "default",
        "rate_limit": (row.rate_limit if row else None) or rate,
        "concurrency_used": sessions,
    }
