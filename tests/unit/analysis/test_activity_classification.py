import pytest

from ociaudit.analysis.activity import ORDINARY, classify_event


@pytest.mark.parametrize(
    ("event_type", "domain_event", "kind"),
    [
        ("com.oraclecloud.identityControlPlane.UploadApiKey", None, "credential"),
        ("com.oraclecloud.identitycontrolplane.uploadapikey.begin", None, "credential"),
        ("com.oraclecloud.identityControlPlane.CreatePolicy", None, "permission"),
        ("com.oraclecloud.identityControlPlane.DeleteMfaTotpDevice", None, "mfa"),
        ("com.oraclecloud.identityControlPlane.RenameSomething", None, None),
        (
            "com.oraclecloud.IdentitySignOn.ResetPasswordAndAuthenticate",
            "admin.user.password.reset.success",
            "credential",
        ),
    ],
)
def test_a_change_to_iam_is_known_by_service_and_verb(event_type, domain_event, kind) -> None:
    """A change to IAM is recognized by its service and its verb, whatever their case."""
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
def test_ordinary_events_share_one_class(event_type) -> None:
    """Reads, and changes outside IAM, return the object `ORDINARY` itself, which hot paths compare by identity."""
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
def test_monitoring_changes(event_type) -> None:
    """A change to monitoring is recognized by name, and also by service where several services share the name."""
    assert classify_event(event_type, None, None).kind == "monitoring"


def test_sign_ins() -> None:
    """A sign-in is recognized by its type or by the identity domain's own name of the event."""
    assert classify_event("com.oraclecloud.IdentitySignOn.InteractiveLogin", None, None).is_sign_in
    assert classify_event("x", None, "sso.authentication.failure").is_sign_in
