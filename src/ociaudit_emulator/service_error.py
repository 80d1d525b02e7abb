"""The refusals that the service answers, as one exception.

Owns: the codes and texts of Oracle's error bodies.
Must not: know HTTP objects.
"""

from __future__ import annotations


class ServiceError(Exception):
    """A refusal with the status and the error code that Oracle answers."""

    def __init__(self, status: int, code: str, message: str) -> None:
        """Keep the status, the code and the message for the answer's body."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def not_authenticated(reason: str = "") -> ServiceError:
    """Make the 401 that a bad, missing or outdated signature gets."""
    text = "The required information to complete authentication was not provided or was incorrect."
    return ServiceError(401, "NotAuthenticated", f"{text} ({reason})" if reason else text)


def not_found() -> ServiceError:
    """Make the 404 that does not say whether a thing is forbidden or unknown."""
    text = "Authorization failed or requested resource not found."
    return ServiceError(404, "NotAuthorizedOrNotFound", text)


def missing_parameter(name: str) -> ServiceError:
    """Make the 400 for a required query parameter that is absent."""
    return ServiceError(400, "MissingParameter", f"Missing query parameter '{name}'.")


def invalid_parameter(message: str) -> ServiceError:
    """Make the 400 for a parameter with an impossible value."""
    return ServiceError(400, "InvalidParameter", message)
