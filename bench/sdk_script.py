"""A typical script for Oracle's SDK: it writes every event of a window to one JSON array.

`python sdk_script.py CONFIG URL COMPARTMENT START END OUTPUT`
"""

import json
import sys
from datetime import datetime
from pathlib import Path

import oci

config_path, url, compartment, start, end, output = sys.argv[1:]
audit = oci.audit.AuditClient(oci.config.from_file(config_path), service_endpoint=url + "/20190901")
events = oci.pagination.list_call_get_all_results_generator(
    audit.list_events,
    "record",
    compartment_id=compartment,
    start_time=datetime.fromisoformat(start),
    end_time=datetime.fromisoformat(end),
)
with Path(output).open("w", encoding="utf-8") as file:
    separator = "["
    for event in events:
        file.write(separator)
        json.dump(oci.util.to_dict(event), file)
        separator = ",\n"
    file.write("]")
