"""Runs one command and prints what it used, as JSON: `python -I launcher.py STDOUT STDERR COMMAND...`.

A process of its own, and a small one: Linux counts the memory that a process had before it became the command
into the command's peak.
"""

import json
import os
import sys
import time

stdout, stderr, *command = sys.argv[1:]
flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
actions = [(os.POSIX_SPAWN_OPEN, 1, stdout, flags, 0o600), (os.POSIX_SPAWN_OPEN, 2, stderr, flags, 0o600)]
began = time.perf_counter()
process_id = os.posix_spawn(command[0], command, os.environ, file_actions=actions)
_, status, usage = os.wait4(process_id, 0)
wall = time.perf_counter() - began
# Linux counts in KiB, macOS in bytes.
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
