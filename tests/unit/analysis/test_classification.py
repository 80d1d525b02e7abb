import pytest

from ociaudit.analysis.classification import ORDINARY, classify_event


@pytest.mark.parametrize(
    ("event_type", "domain_event", "kind"),
    [
        ("com.oraclecloud.identityControlPlane.UploadApiKey", None, "credential"),
        ("com.oraclecloud.identitycontrolplane.uploadapikey.begin", None, "credential"),
        ("com.oraclecloud.identityControlPlane.CreatePolicy", None, "rights"),
        ("com.oraclecloud.identityControlPlane.DeleteMfaTotpDevice", None, "second factor"),
        ("com.oraclecloud.identityControlPlane.RenameSomething", None, None),
        (
            "com.oraclecloud.IdentitySignOn.ResetPasswordAndAuthenticate",
            "admin.user.password.reset.success",
            "credential",
        ),
    ],
)
def test_changes_to_iam(event_type, domain_event, kind) -> None:
    """A change to IAM is known by its service and its verb, whatever its case."""
    event_class = classify_event(event_type, None, domain_event)
    assert event_class.is_iam_change
    assert event_class.kind == kind


@pytest.mark.parametrize(
    "event_type",
    [
        "com.oraclecloud.identityControlPlane.ListUsers",
        "com.oraclecloud.identityControlPlane.GetUser",
        "com.oraclecloud.computeApi.LaunchInstance",
        "com.oraclecloud.DatabaseService.UpdateConfiguration",
        "",
        None,
    ],
)
def test_what_means_nothing_is_one_object(event_type) -> None:
    """Reading, and changes elsewhere, are recognised by identity, because that is asked of every event."""
    assert classify_event(event_type, None, None) is ORDINARY


@pytest.mark.parametrize(
    "event_type",
    [
        "com.oraclecloud.logging.DeleteLogGroup",
        "com.oraclecloud.Audit.UpdateConfiguration",
        "com.oraclecloud.CloudGuard.DeleteTarget",
        "com.oraclecloud.EventsService.DeleteRule",
    ],
)
def test_what_blinds_those_who_watch(event_type) -> None:
    """What watches the tenancy is known by name, and by its service where the name is a common one."""
    assert classify_event(event_type, None, None).kind == "blinding"


def test_sign_ins() -> None:
    """A sign-in is one by its type or by the identity domain's own name."""
    assert classify_event("com.oraclecloud.IdentitySignOn.InteractiveLogin", None, None).is_sign_in
    assert classify_event("x", None, "sso.authentication.failure").is_sign_in
