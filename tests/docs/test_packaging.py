"""What surrounds the program: the image, the workflows, the citation, and the recording of the README."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from ociaudit.version import VERSION

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
INSTRUCTION = re.compile(r"^(?P<name>[A-Z]+)\s+(?P<value>.*)$")
JOB = re.compile(r"^  (?P<name>[a-z]+):$", re.MULTILINE)
ACTION = re.compile(r"^\s*(?:- )?uses: (?P<action>[\w./-]+)@(?P<commit>[0-9a-f]{40}) # v\d+\.\d+\.\d+$")
SVG = "{http://www.w3.org/2000/svg}"


def read_instructions(path: Path) -> list[tuple[str, str]]:
    """Return the instructions of a Containerfile, continued lines joined, comments dropped."""
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    matches = (INSTRUCTION.match(line) for line in joined.splitlines() if line.strip())
    return [(match["name"], " ".join(match["value"].split())) for match in matches if match]


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    """The instructions of the image's last stage."""
    found = read_instructions(ROOT / "Containerfile")
    last = max(number for number, (name, _) in enumerate(found) if name == "FROM")
    return found[last:]


def test_the_image_runs_the_program_without_privileges(instructions) -> None:
    """The last stage has a numeric user that is not root, the program as its entry point, and a volume to write to."""
    named = dict(instructions)
    uid, _, gid = named["USER"].partition(":")
    assert int(uid) >= 1000
    assert int(gid) >= 1000
    assert named["ENTRYPOINT"] == '["oci-audit"]'
    assert named["VOLUME"] == named["WORKDIR"] == "/archive"
    assert [name for name, _ in instructions].index("USER") > max(
        number for number, (name, _) in enumerate(instructions) if name in {"RUN", "COPY"}
    )


def test_the_image_says_whether_it_is_healthy(instructions) -> None:
    """The health check asks for the age of the archive, whose path and age are variables."""
    check = dict(instructions)["HEALTHCHECK"]
    assert 'oci-audit status "${OCI_AUDIT_ARCHIVE}" --max-age "${OCI_AUDIT_MAX_AGE:-90m}"' in check
    assert any(name == "ENV" and "OCI_AUDIT_ARCHIVE=/archive" in value for name, value in instructions)


def test_the_image_is_built_from_what_is_locked() -> None:
    """Everything from an index is checked by its hash, and the base is slim."""
    found = read_instructions(ROOT / "Containerfile")
    installs = [part for name, value in found if name == "RUN" for part in value.split("&&") if "pip" in part]
    fetching = [part for part in installs if " install " in part and "--no-index" not in part]
    assert len(fetching) == 2
    assert all("--require-hashes" in part for part in fetching)
    assert any(name == "ARG" and "-slim" in value for name, value in found)


def test_the_files_of_the_image_are_let_in() -> None:
    """.containerignore lets in what the Containerfile copies, and nothing else."""
    let_in = {
        line[1:].rstrip("/") for line in (ROOT / ".containerignore").read_text().splitlines() if line.startswith("!")
    }
    copied = set()
    for name, value in read_instructions(ROOT / "Containerfile"):
        if name == "COPY" and "--from" not in value:
            copied |= {source.partition("/")[0] for source in value.split()[:-1]}
    assert copied == let_in
    assert all((ROOT / name).exists() for name in copied)


def run_make_container(folder: Path, tools: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run `make container` where these are the only container tools; each is the text of a shell script."""
    for name, text in tools.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    command = [shutil.which("make"), "--no-print-directory", "container"]
    return subprocess.run(command, cwd=ROOT, env={"PATH": str(folder)}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("tools", [{}, {"docker": "exit 1"}], ids=["no tool", "no daemon"])
def test_the_image_is_skipped_with_a_word(tmp_path: Path, tools: dict[str, str]) -> None:
    """Where no container tool works, `make container` says so and succeeds."""
    done = run_make_container(tmp_path, tools)
    assert (done.returncode, done.stdout) == (0, "skipped: neither buildah, podman nor docker works here\n")


@pytest.mark.parametrize(("tool", "is_asked"), [("buildah", True), ("podman", True), ("docker", False)])
def test_the_image_keeps_its_health_check(tmp_path: Path, tool: str, is_asked: bool) -> None:
    """Buildah and podman are asked for the format that has health checks; a build that fails is a failure."""
    broken = {"buildah": "exit 1"} if tool != "buildah" else {}
    done = run_make_container(tmp_path, broken | {tool: 'echo "$@"; [ "$1" = info ]'})
    assert done.returncode != 0
    assert ("build --format docker " in done.stdout) is is_asked
    assert "-f Containerfile -t oci-audit ." in done.stdout


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit(path: Path) -> None:
    """Every action is named by its commit, with the release that it is as a comment."""
    lines = [line for line in path.read_text("utf-8").splitlines() if "uses:" in line]
    assert lines
    assert [line for line in lines if not ACTION.match(line)] == []


def read_jobs(path: Path) -> dict[str, str]:
    """Return the text of each job of a workflow."""
    parts = JOB.split(path.read_text("utf-8").partition("\njobs:\n")[2])
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_only_what_its_jobs_say(path: Path) -> None:
    """A workflow has no permissions; each job states its own, and a time limit."""
    assert "\npermissions: {}\n" in path.read_text("utf-8")
    jobs = read_jobs(path)
    assert jobs
    assert [name for name, text in jobs.items() if "    permissions:\n" not in text] == []
    assert [name for name, text in jobs.items() if "    timeout-minutes: " not in text] == []


def test_jobs_with_an_identity_run_no_code_of_the_repository() -> None:
    """Only `attest` and `publish` may sign; neither checks the repository out, and there is no secret."""
    jobs = read_jobs(ROOT / ".github/workflows/release.yml")
    assert {name for name, text in jobs.items() if "id-token: write" in text} == {"attest", "publish"}
    assert not any("actions/checkout" in jobs[name] for name in ("attest", "publish"))
    assert {name for name, text in jobs.items() if "contents: write" in text} == set()
    assert not any("secrets." in path.read_text("utf-8") for path in WORKFLOWS)


def test_the_targets_of_the_workflows_exist() -> None:
    """Each `make TARGET` of a workflow and of .ci/run is one of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    texts = [path.read_text("utf-8") for path in WORKFLOWS]
    used = {name for text in texts for line in re.findall(r"run: make (.+)", text) for name in line.split()}
    assert {"test", "check", "dist", "sbom"} <= used
    assert used <= targets


def test_the_citation_is_of_this_version() -> None:
    """CITATION.cff has the version and the license of the package."""
    text = (ROOT / "CITATION.cff").read_text("utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert f"\nversion: {VERSION}\n" in text
    assert f"\nlicense: {project['license']}\n" in text


def test_the_recording_is_small_and_described() -> None:
    """The picture of the README has a title, a description, no script, no outside resource, and under 300 kB."""
    path = ROOT / "docs/images/demo.svg"
    text = path.read_text("utf-8")
    root = ET.fromstring(text)
    assert path.stat().st_size < 300_000
    assert root.find(f"{SVG}title").text
    assert len(root.find(f"{SVG}desc").text) > 80
    assert not list(root.iter(f"{SVG}script"))
    assert not re.findall(r"(?:href|src)=\"(?!#)", text)
    alt = re.search(r"!\[(?P<alt>[^\]]+)\]\(docs/images/demo\.svg\)", (ROOT / "README.md").read_text("utf-8"))
    assert len(alt["alt"]) > 80
