"""A real Spark, on this machine's Java, and the emulator; `make test-spark` runs these tests in `.venv-spark`."""

import pytest

from support.emulator import Emulator
from support.spark_sites import KEPT, Site, start_spark


@pytest.fixture(scope="module")
def spark(request, tmp_path_factory):
    """A session of the module's `MASTER`."""
    master = getattr(request.module, "MASTER", "local[2]")
    session = start_spark(master, tmp_path_factory.mktemp("spark"), **getattr(request.module, "SETTINGS", {}))
    yield session
    session.stop()


@pytest.fixture(scope="module")
def shared_emulator(request):
    """One emulator for all tests of a module, with the module's `EMULATOR_FLAGS`."""
    with Emulator(*KEPT, *getattr(request.module, "EMULATOR_FLAGS", ("--events-per-day", "400"))) as running:
        yield running


@pytest.fixture
def site(spark, shared_emulator, tmp_path) -> Site:
    """The module's session and emulator, with an empty log and without faults."""
    shared_emulator.clear_faults()
    shared_emulator.clear_log()
    return Site(spark, shared_emulator, tmp_path)
