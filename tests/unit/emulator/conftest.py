"""ServiceParts in this process for the tests of the emulator."""

import pytest

from support.emulated_service import EmulatedService


@pytest.fixture
def service():
    """A service with the usual settings."""
    return EmulatedService()
