"""Facts of an event with no more fields than somebody needs, because reading all of them takes three times as long.

Owns: such readers. Must not: read any field otherwise than `events.facts` does.

Invariant: what a slim reader's answer has, `read_facts` would have as well; whatever was not named is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, cast

import msgspec

from ociaudit.events.facts import Data, Details, Facts, Identity, Request, Response, read_facts

_MODELS: Mapping[str, type[msgspec.Struct]] = MappingProxyType(
    {
        "": Facts,
        "data.": Data,
        "data.identity.": Identity,
        "data.request.": Request,
        "data.response.": Response,
        "data.additional_details.": Details,
    }
)
_PROPERTIES = {name: value for name, value in vars(Facts).items() if isinstance(value, property)}


def make_reader(needed: Collection[str]) -> Callable[[bytes], Facts]:
    """Return a function like `read_facts` for these fields, named like `data.identity.principal_name`.

    Raises: what `read_facts` raises, when it is called.
    """
    decode = msgspec.json.Decoder(make_model(needed)).decode

    def read(raw: bytes) -> Facts:
        try:
            return decode(raw)
        except (msgspec.MsgspecError, RecursionError):
            return read_facts(raw)

    return read


def make_model(needed: Collection[str]) -> type[Facts]:
    """Return a struct with these fields of `Facts` and no others."""
    return cast(type[Facts], _make_model("", needed))


def _make_model(prefix: str, needed: Collection[str]) -> type[msgspec.Struct]:
    fields: list[tuple[str, Any, None]] = []
    for name in _MODELS[prefix].__struct_fields__:
        path = prefix + name
        if f"{path}." in _MODELS:
            if any(one.startswith(f"{path}.") for one in needed):
                fields.append((name, _make_model(f"{path}.", needed) | None, None))
        elif path in needed:
            fields.append((name, str | None, None))
    return msgspec.defstruct(
        f"Slim{_MODELS[prefix].__name__}",
        fields,
        gc=False,
        rename="camel",
        namespace={} if prefix else _PROPERTIES,
    )
