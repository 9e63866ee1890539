"""The parts that all servers share, made where this module is imported: before they are forked."""

from __future__ import annotations

from .serve import prepare

prepare()
