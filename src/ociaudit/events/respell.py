"""An event in another tool's spelling, written as the Audit API spells it: the inverse of `events.shapes`.

Owns: which names mean the same. Must not: drop a field, change a value, or fill in what is not said.

Known spellings: the SDK's (`event_type`), the official command's (`event-type`), and CloudEvents 1.0 as Logging
Search and Connector Hub write it (`type`).

Invariants
- Only names of fields that the SDK knows change, and only at the level of its models; the keys of free maps, all
  values and the order of fields stay. A time stays as it is written.
- A name whose new spelling the same object already has stays: no field hides another.
- White space around the members of a model goes; within values none does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

from ociaudit.events.sdk_fields import EVENT, SDK_FIELDS
from ociaudit.events.shapes import cut_object

Spelling = Literal["api", "sdk", "cli", "cloudevents"]
Respell = Callable[[Mapping[str, bytes]], bytes]
"""Takes an event's members, as `cut_object` gives them."""

_CAPITAL = re.compile("[A-Z]")
_CLOUD_EVENT_NAMES = MappingProxyType(
    {
        "type": "eventType",
        "specversion": "cloudEventsVersion",
        "dataschema": "eventTypeVersion",
        "id": "eventId",
        "time": "eventTime",
        "datacontenttype": "contentType",
        "source": "source",
        "data": "data",
        "oracle": "oracle",
    }
)
"""How CloudEvents 1.0 names what Audit, which follows an early draft of it, calls otherwise."""


class _ModelReader:
    """Renames the fields of one model's objects."""

    def __init__(self, names: Mapping[str, str], models: Mapping[str, _ModelReader]) -> None:
        """Keep foreign name -> the API's name, the same or another, and foreign name -> the reader of its model."""
        self._heads = {name: b'"%b":' % new.encode() for name, new in names.items()}
        self._new_names = frozenset(new for name, new in names.items() if new != name)
        self._models = models

    def respell(self, members: Mapping[str, bytes]) -> bytes:
        """Write an object of the model with the API's names."""
        heads = self._heads if self._new_names.isdisjoint(members) else self._choose_heads(members)
        models = self._models
        return b"{%b}" % b",".join(
            [
                b"%b%b"
                % (
                    heads.get(name) or b"%b:" % write_name(name),
                    models[name].respell_value(value) if name in models else value,
                )
                for name, value in members.items()
            ]
        )

    def _choose_heads(self, members: Mapping[str, bytes]) -> dict[str, bytes]:
        """Return the renamings without those whose new name is there already."""
        taken = {b'"%b":' % name.encode() for name in self._new_names.intersection(members)}
        return {name: head for name, head in self._heads.items() if head not in taken}

    def respell_value(self, value: bytes) -> bytes:
        """Write a model; what is no object stays as it is."""
        value = bytes(value)  # a msgspec.Raw is not quite bytes
        return self.respell(cut_object(value)) if value.startswith(b"{") else value


def write_name(name: str) -> bytes:
    """Write a member's name; a lone surrogate stays the escape that it was."""
    if name.isascii() and name.isprintable() and '"' not in name and "\\" not in name:
        return b'"%b"' % name.encode()
    return json.dumps(name).encode()


def _make_reader(model: str, joint: str) -> _ModelReader:
    names: dict[str, str] = {}
    models: dict[str, _ModelReader] = {}
    for name, kind in SDK_FIELDS[model].items():
        spelled = _CAPITAL.sub(lambda capital: joint + capital[0].lower(), name)
        names[spelled] = name
        if kind in SDK_FIELDS:
            models[spelled] = _make_reader(kind, joint)
    return _ModelReader(MappingProxyType(names), MappingProxyType(models))


RESPELLS: Mapping[Spelling, Respell] = MappingProxyType(
    {
        "sdk": _make_reader(EVENT, "_").respell,
        "cli": _make_reader(EVENT, "-").respell,
        "cloudevents": _ModelReader(_CLOUD_EVENT_NAMES, MappingProxyType({})).respell,
    }
)
"""Spelling -> the function that writes an event of it as the API does, in one line if its values are."""

_SURE_NAMES = ("eventType", "eventId", "eventTime", "cloudEventsVersion", "eventTypeVersion")
_SURE: Mapping[Spelling, frozenset[str]] = MappingProxyType(
    {
        "api": frozenset(_SURE_NAMES),
        "sdk": frozenset(_CAPITAL.sub(lambda capital: "_" + capital[0].lower(), name) for name in _SURE_NAMES),
        "cli": frozenset(_CAPITAL.sub(lambda capital: "-" + capital[0].lower(), name) for name in _SURE_NAMES),
    }
)


TELLING_NAMES = frozenset({"specversion"}).union(*_SURE.values())
"""Names of members that only an event has, whoever wrote it."""


def recognise_spelling(members: Mapping[str, bytes]) -> Spelling | None:
    """Tell how an object spells an event's fields; None where it has none of the names by which that is known.

    Several spellings in one object: the API's counts before the SDK's, that before the command's.
    """
    for spelling, names in _SURE.items():
        if not names.isdisjoint(members):
            return spelling
    if "type" in members and ("specversion" in members or ("data" in members and "time" in members)):
        return "cloudevents"
    return None
