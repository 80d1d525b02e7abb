import json
import subprocess
from pathlib import Path

import pytest

from support.documents import read_blocks

FIRST_LINE = "#!/bin/sh\n"


@pytest.fixture(scope="module")
def job(repository: Path, tmp_path_factory) -> Path:
    """The job of docs/how-to/nightly.md as a file."""
    (block,) = [one for one in read_blocks(repository / "docs/how-to/nightly.md") if one.text.startswith(FIRST_LINE)]
    path = tmp_path_factory.mktemp("bin") / "oci-audit-nightly"
    path.write_text(block.text, "utf-8")
    path.chmod(0o755)
    return path


def run_job(job: Path, folder: Path, reader, *arguments: str) -> tuple[int, dict]:
    """Run the job; return its exit code and the last line of its log."""
    environment = {**reader.environment, "OCI_AUDIT_FOLDER": str(folder)}
    done = subprocess.run([job, *arguments], env=environment, capture_output=True, check=False)
    assert done.stdout == done.stderr == b""
    (log,) = folder.glob("audit-*.log")
    return done.returncode, json.loads(log.read_text("utf-8").splitlines()[-1])


def test_the_job_reports_gaps_and_waives_what_is_known(job: Path, tmp_path: Path, reader) -> None:
    """A gap is exit 10; once its compartment is waived, the same day is complete."""
    (tmp_path / "waived.txt").write_text("# none yet\n")
    code, end = run_job(job, tmp_path, reader, "2025-12-01")
    assert (code, end["event"], end["complete"], end["gaps"]) == (10, "end", False, 3)
    (tmp_path / "waived.txt").write_text(reader.fill_in("# accepted\nocid1.compartment.oc1..bbbb\n"))
    code, end = run_job(job, tmp_path, reader, "2025-12-01")
    assert (code, end["complete"], end["waived"]) == (0, True, 3)
    assert {path.name for path in tmp_path.glob("audit-2025-12-01.json.gz*")} >= {
        "audit-2025-12-01.json.gz",
        "audit-2025-12-01.json.gz.manifest.json",
        "audit-2025-12-01.json.gz.ledger.ndjson",
    }


def test_the_job_exports_yesterday_once(job: Path, tmp_path: Path, reader) -> None:
    """Without an argument the job exports one day, and the second run finds it complete."""
    (tmp_path / "waived.txt").write_text(reader.fill_in("ocid1.compartment.oc1..bbbb\n"))
    code, end = run_job(job, tmp_path, reader)
    assert (code, end["was_complete_before"]) == (0, False)
    code, end = run_job(job, tmp_path, reader)
    assert (code, end["was_complete_before"], end["requests"]) == (0, True, end["requests"])
