"""A sync in which nothing happened, of a whole tenancy, by the emulator's log."""

from collections import Counter

from support.emulator import Emulator
from support.kill_at_call import KillableCommand
from support.run_directories import list_requests
from support.syncs import FLAGS, SyncStand

EVERYTHING = {"regions": [], "compartments": [], "is_subtree": True}


def test_one_request_for_each_target(tmp_path):
    """An hour after the first sync, the next one sends one request for each of 3 regions × 42 compartments."""
    with Emulator(*FLAGS, "--compartments", "27") as emulator, KillableCommand() as command:
        stand = SyncStand(emulator, command, tmp_path)
        assert stand.sync(**EVERYTHING).status == 0
        emulator.clock(advance="1h")
        emulator.clear_log()
        assert stand.sync(**EVERYTHING).status == 0
        requests = list_requests(emulator.log())
    counts = Counter((request.region, request.compartment) for request in requests)
    assert len(counts) == 3 * (15 + 27)
    assert len(requests) <= 1.1 * len(counts)
