"""Fixtures for the tests of the emulator."""

import pytest

from support.emulated_service import EmulatedService


@pytest.fixture
def service():
    """The emulated services with the default settings."""
    return EmulatedService()
