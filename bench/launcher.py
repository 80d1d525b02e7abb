"""A script that runs one command and prints its usage as JSON: `python -I launcher.py STDOUT STDERR COMMAND...`.

It is a small process of its own, because Linux counts the memory of the process that starts a command into the
command's peak.
"""

import json
import os
import sys
import time

stdout, stderr, *command = sys.argv[1:]
flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
actions = [(os.POSIX_SPAWN_OPEN, 1, stdout, flags, 0o600), (os.POSIX_SPAWN_OPEN, 2, stderr, flags, 0o600)]
started = time.perf_counter()
process_id = os.posix_spawn(command[0], command, os.environ, file_actions=actions)
_, status, usage = os.wait4(process_id, 0)
wall = time.perf_counter() - started
# `ru_maxrss` is in KiB on Linux and in bytes on macOS.
unit = 1 if sys.platform == "darwin" else 1024
print(
    json.dumps(
        {
            "code": os.waitstatus_to_exitcode(status),
            "wall_seconds": wall,
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
            "peak_bytes": usage.ru_maxrss * unit,
        }
    )
)
