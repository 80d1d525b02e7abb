"""What the long runs share: an environment without a user."""

import os

import pytest


@pytest.fixture(autouse=True)
def no_user(monkeypatch, tmp_path):
    """Let nothing of the user who runs the tests reach the program."""
    for name in list(os.environ):
        if name.startswith("OCI_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
