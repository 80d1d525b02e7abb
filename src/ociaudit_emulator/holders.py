"""Who of the made tenancy holds tokens: the configuration's user, an instance, and a function.

Owns: this choice.
Must not: make tokens.
"""

from __future__ import annotations

from ociaudit_emulator.chance import make_ocid
from ociaudit_emulator.session_token import Holder, HolderKind
from ociaudit_emulator.tenancy import PrincipalKind, Tenancy


def find_holder(tenancy: Tenancy, kind: HolderKind) -> Holder:
    """Give the one of this kind."""
    if kind is HolderKind.INSTANCE:
        found = next(one.id for one in tenancy.principals if one.kind is PrincipalKind.INSTANCE)
    elif kind is HolderKind.RESOURCE:
        found = make_ocid("fnfunc", tenancy.id, region_key="iad")
    else:
        found = tenancy.config_user.id
    return Holder(kind, found, tenancy.id, tenancy.compartments[1].id)
