"""The JSON Schemas of parameters and responses, from the classes that the code uses. No I/O.

msgspec makes the schemas. A schema of parameters then gets the rules of the decoder
(access/parameters.py): null means absent, aliases are folded, and other keys are ignored while they
ask for nothing.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any

import msgspec

from ..access.ownership import OWNER
from ..access.parameters import ParameterSet, keys_of
from ..access.unserved import EMPTY, UNASKED

Schema = dict[str, Any]

_REF = "#/components/schemas/{name}"
_NULL: Schema = {"type": "null"}
_OWNER: Schema = {
    "anyOf": [{"type": "string"}, _NULL],
    "description": "an access key; an admin acts for its owner",
}


class Schemas:
    """The schemas of all types of a document.

    components  by their names, for the document
    with_owner  parameters that come with the name of an owner
    """

    def __init__(
        self,
        kinds: Iterable[type[msgspec.Struct]],
        shapes: Iterable[Any],
        with_owner: Container[type[msgspec.Struct]],
    ) -> None:
        own = {inner: None for kind in kinds for inner in _with_inner(kind)}
        types = [*own, *shapes]
        schemas, self.components = msgspec.json.schema_components(types, ref_template=_REF)
        self._schemas = list(zip(types, schemas, strict=True))
        self._plain = {kind: self.components[kind.__name__] for kind in own}
        for kind in own:
            self._add(self._decoded(kind, kind in with_owner))

    def of(self, shape: Any) -> Schema:
        """The schema of a type of this document, which may be a reference."""
        return next(schema for kind, schema in self._schemas if kind == shape)

    def fields(self, kind: type[msgspec.Struct]) -> dict[str, Schema]:
        """The schemas of all parameters of `kind` by their names, also of aliases; without null."""
        properties: dict[str, Schema] = self._plain[kind].get("properties", {})
        fields = {name: _without_null(schema) for name, schema in properties.items()}
        for alias, name in aliases_of(kind).items():
            same = {key: value for key, value in fields[name].items() if key != "default"}
            fields[alias] = {**same, "description": f"another name of {name}"}
        return fields

    def required(self, kind: type[msgspec.Struct]) -> list[str]:
        """The names of the parameters that a request must have, maybe by an alias."""
        required: list[str] = self._plain[kind].get("required", [])
        return required

    def _add(self, schema: Any) -> Any:
        """The schema with references in the place of schemas that have a title of their own."""
        if isinstance(schema, list):
            return [self._add(one) for one in schema]
        if not isinstance(schema, dict):
            return schema
        inner = {key: self._add(value) for key, value in schema.items()}
        if not isinstance(title := inner.get("title"), str):
            return inner
        self.components[title] = inner
        return {"$ref": _REF.format(name=title)}

    def _decoded(self, kind: type[msgspec.Struct], with_owner: bool) -> Schema:
        """The schema of an object that the decoder takes for `kind`."""
        properties = self._properties(kind) | ({OWNER: _OWNER} if with_owner else {})
        required = self.required(kind)
        schema: Schema = {
            "title": kind.__name__,
            "description": self._plain[kind].get("description", ""),
            "type": "object",
            "properties": properties,
            "additionalProperties": {
                "enum": list(EMPTY),
                "description": "Another key is ignored while it asks for nothing.",
            },
        }
        names = [_names(kind, name) for name in required]
        if alone := [one[0] for one in names if len(one) == 1]:
            schema["required"] = alone
        if several := [one for one in names if len(one) > 1]:
            schema["allOf"] = [{"anyOf": [{"required": [n]} for n in one]} for one in several]
        return schema

    def _properties(self, kind: type[msgspec.Struct]) -> dict[str, Schema]:
        fields = self.fields(kind)
        if issubclass(kind, ParameterSet):
            for name, keys in keys_of(kind).items():
                inner = [self._properties(one) for one in keys.kinds]
                merged: dict[str, Schema] = {k: v for one in inner for k, v in one.items()}
                fields[name] = {"type": "object", "properties": merged}
        properties = {name: _or_null(schema) for name, schema in fields.items()}
        for name, values in UNASKED.get(kind.__name__, {}).items():
            properties.setdefault(name, {"enum": [*EMPTY, *values], "description": "has no effect"})
        return properties


def aliases_of(kind: type[msgspec.Struct]) -> Mapping[str, str]:
    """The aliases of the parameters `kind`, to the names that clients may use as well."""
    if not issubclass(kind, ParameterSet):
        return {}
    return kind.aliases


def _names(kind: type[msgspec.Struct], name: str) -> list[str]:
    """The parameter `name` with its aliases."""
    return [name, *(alias for alias, own in aliases_of(kind).items() if own == name)]


def _with_inner(kind: type[msgspec.Struct]) -> list[type[msgspec.Struct]]:
    """The class, and the classes of the objects in it."""
    if not issubclass(kind, ParameterSet):
        return [kind]
    return [kind, *(one for keys in keys_of(kind).values() for one in keys.kinds)]


def _or_null(schema: Schema) -> Schema:
    if not schema or _NULL in schema.get("anyOf", ()) or "null" in schema.get("type", ()):
        return schema
    notes: Schema = {key: schema[key] for key in ("description", "default") if key in schema}
    rest = {key: value for key, value in schema.items() if key not in notes}
    return {"anyOf": [rest, _NULL], **notes}


def _without_null(schema: Schema) -> Schema:
    if _NULL not in schema.get("anyOf", ()):
        return schema
    some = [one for one in schema["anyOf"] if one != _NULL]
    rest = {
        key: value
        for key, value in schema.items()
        if key != "anyOf" and not (key == "default" and value is None)
    }
    return {**some[0], **rest} if len(some) == 1 else {"anyOf": some, **rest}
