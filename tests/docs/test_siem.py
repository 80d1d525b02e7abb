"""The recipes of docs/how-to/siem.md against a receiver that fails now and then: nothing lost, repeats removable."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from support.documents import read_blocks
from support.event_archives import EventArchive, make_event
from support.processes import make_environment
from support.siem_receiver import SiemReceiver

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/how-to/siem.md"
HARD = [make_event(1, text="\ud800 lone"), b'{"eventTime":"never","eventId":"2"}', make_event(3, text='"\r\n\u2028\\')]


@pytest.mark.skipif(not (shutil.which("jq") and shutil.which("curl")), reason="needs jq and curl")
@pytest.mark.parametrize(("name", "variable"), [("splunk", "SPLUNK_URL"), ("opensearch", "OPENSEARCH_URL")])
def test_a_receiver_that_fails_gets_every_event(tmp_path, name, variable) -> None:
    """Each script is repeated until it succeeds while the archive grows; by `record_id` every event is there once."""
    archive = EventArchive(tmp_path / "audit-archive")
    block = next(one for one in read_blocks(PAGE) if one.text.startswith(f"cat > to-{name}.sh"))
    (tmp_path / f"{name}.curlrc").write_text("")
    raws: set[bytes] = set()
    failures = 0
    with SiemReceiver() as receiver:
        environment = make_environment(tmp_path, **{variable: receiver.url})
        environment["PATH"] = f"{sysconfig.get_path('scripts')}:{environment['PATH']}"
        subprocess.run(["/bin/sh", "-c", block.text], cwd=tmp_path, env=environment, check=True)
        for day in range(1, 5):
            added = [make_event(number, date=f"2025-12-{day:02}") for number in range(400 * day)] + HARD
            raws.update(added)
            archive.add(added)
            command = ["/bin/sh", f"to-{name}.sh"]
            while subprocess.run(command, cwd=tmp_path, env=environment, check=False, capture_output=True).returncode:
                failures += 1
                assert failures < 60, "it never succeeds"
        ids = [event["record_id"] for event in receiver.events]
        assert set(ids) == {hashlib.sha256(raw).hexdigest() for raw in raws}
        assert len(ids) > len(set(ids)), "no event came twice, so no fault was survived"
        assert min(receiver.fired[fault] for fault in ("reject", "drop", "partial")) > 0
        assert failures > 0


def test_the_configurations_of_shippers_keep_what_was_not_confirmed() -> None:
    """Vector's and Fluent Bit's configurations take the file that `tail` writes, long lines, and retry without end."""
    blocks = read_blocks(PAGE)
    shown = next(one.text for one in blocks if "--follow" in one.text)
    vector = next(one.text for one in blocks if one.language == "yaml")
    fluent = next(one.text for one in blocks if one.language == "ini")
    file = re.search(r">> (\S+)", shown)
    assert file
    assert "--with-record-id" in shown
    for text, wanted in (
        (vector, ("type: file", "max_line_bytes: 67108864", "acknowledgements: {enabled: true}", "data_dir:")),
        (fluent, ("name tail", "buffer_max_size 64M", "db /", "retry_limit no_limits", "storage.type filesystem")),
    ):
        assert f"/{file[1]}" in text
        assert [one for one in wanted if one not in text] == []
    names = set(re.findall(r"^ {2}(\w+):$", vector, re.MULTILINE))
    assert names == {"oci_audit", "parsed", "out"}
    assert set(re.findall(r"inputs: \[(\w+)\]", vector)) < names
