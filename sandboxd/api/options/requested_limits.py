"""The limits that a client requests for a session, checked without the configuration of a server.

The command line makes the same check before it starts a private daemon. No I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import Invalid
from ...model import SCRATCH_MIN, size
from ..access import unserved
from . import limit_values, texts


def fields(resources: Mapping[str, Any], resource_opts: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of model.Limits for `resources` and `resource_opts` of a request. Raises
    Invalid."""
    limits: dict[str, Any] = {}
    for name, value in resources.items():
        field = limit_values.RESOURCES.get(name)
        if field and value is not None:
            limits[field] = limit_values.amount(field, value, f"config.resources.{name}")
        elif not field and value not in (None, 0, "0", ""):
            raise Invalid.of({f"config.resources.{name}": "this host offers cpu and mem"})
    rest = {
        name: value
        for name, value in resource_opts.items()
        if name not in limit_values.RESOURCE_OPTS
    }
    unserved.check(rest, "resource_opts", limit_values.RESOURCE_OPTS, "config.resource_opts")
    for name, field in limit_values.RESOURCE_OPTS.items():
        if (value := resource_opts.get(name)) is not None:
            limits[field] = limit_values.amount(field, value, f"config.resource_opts.{name}")
    if limits.get("disk", SCRATCH_MIN) < SCRATCH_MIN:
        data = {
            "config.resource_opts.disk": f"at least {size(SCRATCH_MIN)} are needed, not "
            f"{texts.quoted(resource_opts['disk'])}"
        }
        raise Invalid.of(data)
    return limits
