"""The event names people ask for, and what Audit really records.

Owns: that table. Source: Oracle's documentation and recorded events.
Invariant: every value is a fragment of real event types, in their true casing.
"""

from __future__ import annotations

from types import MappingProxyType

RECORDED_AS = MappingProxyType(
    {
        "CreateApiKey": ("identityControlPlane.UploadApiKey",),
        "UpdateUserPassword": (
            "identityControlPlane.CreateOrResetPassword",
            "IdentityProvisioning.UpdateUserUIPassword",
            "IdentitySignOn.ChangePassword",
            "IdentitySignOn.ResetPasswordAndAuthenticate",
            "admin.user.password.reset.success",
            "admin.me.password.change.success",
        ),
        "UpdateUserMfaStatus": (
            "CreateMfaTotpDevice",
            "ActivateMfaTotpDevice",
            "DeleteMfaTotpDevice",
            "GenerateTotpSeed",
            "sso.auth.factor.initiated",
        ),
        "LoginSuccess": (
            "IdentitySignOn.InteractiveLogin",
            "IdentitySignOn.FederatedInteractiveLogin",
            "IdentitySignOn.VerifyMfaToken",
            "sso.session.create.success",
        ),
        "LoginFailure": (
            "IdentitySignOn.InteractiveLogin",
            "IdentitySignOn.FederatedInteractiveLogin",
            "IdentitySignOn.VerifyMfaToken",
            "sso.session.create.failure",
            "sso.authentication.failure",
        ),
        "SessionStart": ("sso.session.create.success", "sso.session.modify.success"),
        "SessionTimeout": ("sso.session.delete.success",),
        "LockUser": ("identityControlPlane.UpdateUserState", "admin.me.locked.success"),
    }
)
"""Asked-for name -> what the events are called in Audit."""


def find_recorded_names(pattern: str) -> tuple[str, tuple[str, ...]] | None:
    """Return (asked-for name, recorded names) when `pattern` mentions a name that Audit does not record."""
    folded = pattern.casefold()
    for asked, recorded in RECORDED_AS.items():
        if asked.casefold() in folded:
            return asked, recorded
    return None
