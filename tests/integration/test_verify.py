"""What `oci-audit verify` finds: a change of any byte, a statement that contradicts itself, and nothing else."""

import gzip
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from ociaudit.errors import CorruptRun
from ociaudit.operations.context import ExportOptions
from ociaudit.operations.verify import verify_export
from ociaudit.storage.manifest import name_manifest
from support.exports import export_here, make_tools, read_manifest
from support.forging import forge_manifest, parse_manifest
from support.kill_at_call import Ended
from support.processes import find_command, make_environment
from support.stands import REGION, SECOND, START
from support.truth import find_compartment, list_compartments

EMULATOR_FLAGS = ("--events-per-day", "40", "--page-size", "4")  # a quiet tenancy
SPAN = {"start": START, "end": SECOND}


def export(emulator, output: Path, compartments, **given):
    """Export a day in this process."""
    options = ExportOptions(**{**SPAN, **given}, regions=(REGION,), compartments=tuple(compartments), is_subtree=False)
    return export_here(options, output, make_tools(emulator))


@pytest.fixture(scope="module")
def originals(shared_emulator, tmp_path_factory):
    """A tiny complete export, the same compressed, the same in the SDK's spelling, and one with a gap."""
    folder = tmp_path_factory.mktemp("originals")
    root = shared_emulator.tenancy()["id"]
    assert export(shared_emulator, folder / "plain.json", [root]).complete
    assert export(shared_emulator, folder / "packed.json.gz", [root]).complete
    assert export(shared_emulator, folder / "sdk.json", [root], shape="sdk").complete
    forbidden = list_compartments(shared_emulator, is_forbidden=True)
    assert not export(shared_emulator, folder / "gap.json", [root, *forbidden]).complete
    assert parse_manifest(folder / "plain.json").totals.written > 8
    return folder


@pytest.fixture
def folder(originals, tmp_path):
    """A copy of them that may be changed."""
    target = tmp_path / "copy"
    shutil.copytree(originals, target)
    return target


@pytest.fixture
def plain(folder):
    """The tiny export."""
    return folder / "plain.json"


def verify(command, folder, *arguments: str, **variables: str) -> Ended:
    """Run the command."""
    return command(["verify", *arguments], cwd=folder, variables=make_environment(folder, **variables))


def check(output: Path):
    """Verify in this process."""
    return verify_export(output, manifest_path=name_manifest(output))


def list_problems(output: Path):
    """Return (file, byte) of every problem; a manifest that cannot be read is one, too."""
    try:
        return [(problem.file, problem.offset) for problem in check(output).problems]
    except CorruptRun as error:
        name = name_manifest(output).name
        return [(name, None)] if name in str(error) else []


@pytest.mark.parametrize("name", ["plain.json", "packed.json.gz", "sdk.json"])
def test_sound_export(command, folder, name):
    """A complete export, plain, compressed or in another spelling, is complete and consistent, exit 0."""
    ended = verify(command, folder, name)
    assert ended.status == 0, ended.stdout
    assert (
        "files     consistent; unsigned: who made it is not proven\nverdict   complete: 1 of 1 target answered\n"
        in ended.stdout
    )
    assert f"requested {SPAN['start']} to {SPAN['end']}, processed time, end exclusive" in ended.stdout
    assert "none: who made the files is not proven" in ended.stdout
    assert read_manifest(folder / name)["digest"] in ended.stdout


def test_gaps_are_told_and_are_exit_10(command, folder):
    """The gaps of a compartment are printed with its name, its regions and the reason."""
    ended = verify(command, folder, "gap.json")
    assert ended.status == 10
    (gap,) = read_manifest(folder / "gap.json")["gaps"]
    paths = read_manifest(folder / "gap.json")["scope"]["compartment_paths"]
    assert paths == {}  # exactly one OCID was requested, so no compartments were listed
    assert f"{gap['compartment']}: {gap['kind']} in {gap['region']} (404)" in " ".join(ended.stdout.split())
    assert "INCOMPLETE" in ended.stdout


def flip(path: Path, position: int, mask: int = 1) -> bytes:
    """Change one byte of a file, and return what it held."""
    data = path.read_bytes()
    path.write_bytes(data[:position] + bytes([data[position] ^ mask]) + data[position + 1 :])
    return data


def test_every_byte_of_the_manifest_counts(plain):
    """Changing any single byte of the manifest is noticed, and a file is named."""
    path = name_manifest(plain)
    for position in range(path.stat().st_size):
        data = flip(path, position)
        problems = list_problems(plain)
        path.write_bytes(data)
        assert problems, f"byte {position}"
    assert list_problems(plain) == []


@pytest.mark.parametrize("replacement", [b"/", b"\0", b'"', b"}", b" ", b"9", b"-", b"\xff"])
def test_hostile_bytes_in_the_manifest(plain, replacement):
    """Whatever stands in the manifest, it is a problem or unreadable, and never an accident."""
    path = name_manifest(plain)
    data = path.read_bytes()
    for position in range(0, len(data), 7):
        if data[position : position + 1] != replacement:
            path.write_bytes(data[:position] + replacement + data[position + 1 :])
            assert list_problems(plain), f"byte {position}"


def test_every_byte_of_the_ledger_counts(plain):
    """Changing any single byte of the ledger is noticed, and said of the ledger."""
    path = plain.with_name("plain.json.ledger.ndjson")
    for position in range(0, path.stat().st_size, 2):
        data = flip(path, position, 1 << position % 7)
        problems = list_problems(plain)
        path.write_bytes(data)
        assert path.name in {file for file, _ in problems}, f"byte {position}"
    assert list_problems(plain) == []


def list_structural(data: bytes) -> list[int]:
    """Return places of every kind: each byte that is not in a string's middle once, and some of the others."""
    marks = {
        mark: data.find(mark) for mark in (b"[", b"{", b"}", b'"', b":", b",", b"\\", b"]", b"null", b"\n", b"\n]")
    }
    lasts = [data.rfind(mark) for mark in (b"[", b"{", b"}", b'"', b":", b",", b"]", b"\n", b"\n]", b"},\n")]
    digits = [match.start() for match in re.finditer(rb"\d", data)]
    targets = {*marks.values(), *lasts, *digits[:: len(digits) // 20], *range(0, len(data), len(data) // 40)}
    return sorted(targets - {-1})


@pytest.mark.parametrize("name", ["plain.json", "sdk.json"])
def test_every_byte_of_the_output_counts(folder, name):
    """Changing any single byte of the output is noticed, with a place that is not behind the change."""
    path = folder / name
    for position in list_structural(path.read_bytes()):
        for mask in (1, 0x20):
            data = flip(path, position, mask)
            found = [offset for file, offset in list_problems(path) if file == name]
            path.write_bytes(data)
            assert found, f"byte {position}"
            assert any(offset is not None and offset <= position for offset in found), f"byte {position}: {found}"
    assert list_problems(path) == []


def test_every_byte_of_a_compressed_output_counts(folder):
    """The same for a compressed output, its header and trailer included."""
    path = folder / "packed.json.gz"
    size = path.stat().st_size
    for position in [*range(12), *range(12, size - 10, size // 60), *range(size - 10, size)]:
        data = flip(path, position, 0x10)
        found = [offset for file, offset in list_problems(path) if file == path.name]
        path.write_bytes(data)
        assert any(offset is not None and offset <= position for offset in found), f"byte {position}: {found}"
    assert list_problems(path) == []


@pytest.mark.parametrize("suffix", ["", ".ledger.ndjson", ".manifest.json"])
@pytest.mark.parametrize("change", ["cut", "emptied", "longer", "twice"])
def test_files_of_another_length(command, plain, suffix, change):
    """A file that was cut, emptied, or has more behind it, is noticed by name."""
    path = plain.with_name(plain.name + suffix)
    data = path.read_bytes()
    path.write_bytes({"cut": data[:-1], "emptied": b"", "longer": data + b"\n", "twice": data + data}[change])
    ended = verify(command, plain.parent, plain.name)
    assert ended.status in ({6, 7} if "manifest" in suffix else {7}), ended.stdout
    assert path.name in ended.stdout + ended.stderr


def test_says_from_which_byte(command, plain):
    """A damaged export is exit 7, and the text names file and byte."""
    position = plain.read_bytes().index(b'{"', 2000)
    flip(plain, position)
    ended = verify(command, plain.parent, plain.name)
    assert ended.status == 7
    assert re.search(r"ALTERED +plain\.json: .*\(from byte [\d,]+\)", ended.stdout), ended.stdout
    assert "ALTERED: the file is not the one of its manifest; do not rely on it" in ended.stdout


def test_json(command, folder):
    """`--json` says the same as one object."""
    sound = json.loads(verify(command, folder, "plain.json", "--json").stdout)
    assert (sound["verdict"], sound["problems"], sound["is_signed"]) == ("complete", [], False)
    assert sound["output"]["sha256"] == read_manifest(folder / "plain.json")["output"]["sha256"]
    assert len(json.loads(verify(command, folder, "gap.json", "--json").stdout)["gaps"]) == 1
    flip(folder / "plain.json", 100)
    ended = verify(command, folder, "plain.json", "--json")
    assert ended.status == 7
    assert json.loads(ended.stdout)["problems"][0]["file"] == "plain.json"


def test_unreadable(command, plain):
    """Without a manifest that can be read there is nothing to check: exit 6. Without an output: exit 2."""
    path = name_manifest(plain)
    for data in (b"", b"{}", b"[]", b"garbage", b"\xff", path.read_bytes().replace(b"manifest/1", b"manifest/9")):
        path.write_bytes(data)
        assert verify(command, plain.parent, plain.name).status == 6, data[:20]
    path.unlink()
    missing = verify(command, plain.parent, plain.name)
    assert missing.status == 6
    assert "there is no manifest" in missing.stderr
    assert verify(command, plain.parent, "nothing.json").status == 2


def test_missing_ledger(command, plain):
    """An export whose ledger is gone is not consistent any more."""
    plain.with_name("plain.json.ledger.ndjson").unlink()
    ended = verify(command, plain.parent, plain.name)
    assert ended.status == 7
    assert re.search("ledger.*missing", ended.stdout)


def test_moved_together(command, plain, tmp_path):
    """The three files may be moved together; the manifest may be elsewhere when it is named."""
    away = tmp_path / "away"
    away.mkdir()
    for path in plain.parent.glob("plain.json*"):
        shutil.copy(path, away)
    shutil.move(name_manifest(away / "plain.json"), tmp_path / "statement.json")
    ended = verify(command, away, "plain.json", "--manifest", str(tmp_path / "statement.json"))
    assert ended.status == 0, ended.stdout + ended.stderr


def split_lines(plain: Path) -> list[bytes]:
    """Return the events of an output."""
    return [line.removesuffix(b",") for line in plain.read_bytes().splitlines()[1:-1]]


def forge(plain: Path, lines: list[bytes], **changes: int) -> list[str]:
    """Write an output with other lines, forge_manifest everything, and return what is noticed all the same."""
    manifest = parse_manifest(plain)
    plain.write_bytes(b"[\n" + b",\n".join(lines) + b"\n]\n")
    totals = msgspec.structs.replace(manifest.totals, **changes)
    forge_manifest(plain, msgspec.structs.replace(manifest, totals=totals))
    return [problem.text for problem in check(plain).problems]


def test_forged_order(plain):
    """With all hashes made right, events out of order still show."""
    lines = split_lines(plain)
    assert forge(plain, lines) == []
    assert any("out of order" in text for text in forge(plain, [lines[1], lines[0], *lines[2:]]))


def test_forged_duplicate(plain):
    """With all hashes made right, a record that stands twice still shows."""
    lines = split_lines(plain)
    totals = parse_manifest(plain).totals
    texts = forge(plain, [lines[0], *lines], written=totals.written + 1, scanned=totals.scanned + 1)
    assert any("a record is repeated" in text for text in texts)


def test_forged_count(plain):
    """With all hashes made right, an event that is missing still shows in the counts."""
    lines = split_lines(plain)
    assert any("events, the manifest states" in text for text in forge(plain, lines[1:]))
    totals = parse_manifest(plain).totals
    assert any("written + filtered" in text for text in forge(plain, lines[1:], written=totals.written - 1))
    fewer = {"written": totals.written - 1, "scanned": totals.scanned - 1}
    assert any("add up" in text for text in forge(plain, lines[1:], **fewer))


def test_forged_coverage(folder):
    """A gap that is taken out of the statement leaves a place that is neither covered nor a gap."""
    output = folder / "gap.json"
    manifest = parse_manifest(output)
    forge_manifest(output, msgspec.structs.replace(manifest, gaps=(), complete=True))
    assert any("neither covered nor a gap" in problem.text for problem in check(output).problems)
    whole = ((SPAN["start"], SPAN["end"]),)
    coverage = tuple(msgspec.structs.replace(entry, windows=whole) for entry in manifest.coverage)
    forge_manifest(output, msgspec.structs.replace(manifest, gaps=(), complete=True, coverage=coverage))
    assert any("does not match the ledger" in problem.text for problem in check(output).problems)
    forge_manifest(output, msgspec.structs.replace(manifest, complete=True))
    assert any("contradict" in problem.text for problem in check(output).problems)


@pytest.fixture
def keys(tmp_path):
    """Two SSH keys: the signer's and somebody else's."""
    for name in ("mine", "theirs"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"{name}@example", "-f", tmp_path / name]
        subprocess.run(command, check=True)
    return tmp_path


@pytest.fixture
def signed(emulator, command, keys):
    """A signed export, made by the command."""
    folder = keys / "signed"
    folder.mkdir()
    ended = command(
        [
            *("export", "--config-file", str(emulator.config_path), "--start", START, "--end", SECOND),
            *("--region", REGION, "--compartment", find_compartment(emulator, "payments"), "--no-subtree"),
            *("-o", "audit.json", "--sign", str(keys / "mine")),
        ],
        cwd=folder,
        variables=make_environment(folder, OCI_AUDIT_ENDPOINT=emulator.url + "/{region}"),
    )
    assert ended.status == 0, ended.stderr
    return folder


def test_signature_of_the_expected_signer(command, signed, keys):
    """With the signer's public key, or an allowed-signers file, verify says by whom it was signed."""
    public = (keys / "mine.pub").read_text().strip()
    (keys / "allowed").write_text(f"auditor@example {public}\n")
    for signer, words in (("mine.pub", "signed by signer"), ("allowed", "signed by auditor@example")):
        ended = verify(command, signed, "audit.json", "--signer", str(keys / signer))
        assert ended.status == 0, ended.stdout + ended.stderr
        assert words in ended.stdout


def test_signature_of_nobody_in_particular(command, signed):
    """Without a signer a good signature is told apart from one by somebody who is known."""
    ended = verify(command, signed, "audit.json")
    assert ended.status == 0
    assert "the signer is unknown" in ended.stdout


def test_signature_of_somebody_else(command, signed, keys):
    """A good signature by another key than the one expected is exit 7."""
    ended = verify(command, signed, "audit.json", "--signer", str(keys / "theirs.pub"))
    assert ended.status == 7
    assert "by another signer" in ended.stdout


def test_a_signer_that_does_not_exist(command, signed):
    """A named key file that is not there is a usage error that names the option."""
    ended = verify(command, signed, "audit.json", "--signer", "nosuch.pub")
    assert ended.status == 2
    assert "--signer nosuch.pub: there is no such file" in ended.stderr
    assert "public SSH key" in ended.stderr


def test_signature_missing(command, plain, keys):
    """Where a signer is expected, an unsigned export is exit 7."""
    ended = verify(command, plain.parent, "plain.json", "--signer", str(keys / "mine.pub"))
    assert ended.status == 7
    assert "no signature" in ended.stdout


def test_who_made_it_is_told_apart(command, plain, signed, keys):
    """Unsigned, signed by an unknown key, by the expected one and by another: each has words of its own."""
    output, signature = signed / "audit.json", signed / "audit.json.manifest.json.sig"
    mine, theirs = str(keys / "mine.pub"), str(keys / "theirs.pub")
    found = {
        "unsigned": tell_author(command, plain),
        "missing": tell_author(command, plain, "--signer", mine),
        "unknown_signer": tell_author(command, output),
        "expected_signer": tell_author(command, output, "--signer", mine),
        "other_signer": tell_author(command, output, "--signer", theirs),
    }
    arguments = ["ssh-keygen", "-q", "-Y", "sign", "-f", keys / "mine", "-n", "oci-audit-manifest", keys / "mine.pub"]
    subprocess.run(arguments, check=True, capture_output=True)
    shutil.move(keys / "mine.pub.sig", signature)
    found["unfit"] = tell_author(command, output, "--signer", mine)
    assert {name: json_says for name, (json_says, _, _) in found.items()} == {name: name for name in found}
    assert len({lines for _, lines, _ in found.values()}) == len(found)
    assert {name for name, (_, _, status) in found.items() if status} == {"missing", "other_signer", "unfit"}
    for name, (_, lines, status) in found.items():
        assert ("NOT SIGNED AS EXPECTED" in lines) == bool(status), name
        assert "ALTERED" not in lines, name
        assert ("who made it is not proven" in lines) == (name in {"unsigned", "unknown_signer"}), name


def tell_author(command, output: Path, *options: str) -> tuple[str, str, int]:
    """Return what verify says of the author as JSON and on screen, and its exit status."""
    said = json.loads(verify(command, output.parent, output.name, "--json", *options).stdout)
    ended = verify(command, output.parent, output.name, *options)
    lines = [
        line for line in ended.stdout.splitlines() if line.startswith(("signature", "SIGNATURE", "files", "verdict"))
    ]
    assert lines[0].startswith("signature ")
    return said["authorship"], "\n".join(lines), ended.status


def test_signature_proves_what_hashes_cannot(command, signed, keys):
    """A forgery whose hashes are all right is consistent when it is unsigned; the signature does not match it."""
    output = signed / "audit.json"
    manifest = parse_manifest(output)
    lines = split_lines(output)
    changed = lines[0].replace(b"com.oraclecloud", b"com.oraclec1oud", 1)
    assert changed != lines[0]
    output.write_bytes(b"[\n" + b",\n".join([changed, *lines[1:]]) + b"\n]\n")
    forge_manifest(output, manifest)
    ended = verify(command, signed, "audit.json", "--signer", str(keys / "mine.pub"))
    assert ended.status == 7
    assert "the signature does not match" in ended.stdout
    (signed / "audit.json.manifest.json.sig").unlink()
    assert verify(command, signed, "audit.json").status == 0


def test_signature_damaged(command, signed):
    """A signature file that was changed is exit 7."""
    path = signed / "audit.json.manifest.json.sig"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], lines[1].swapcase(), *lines[2:]]))
    assert verify(command, signed, "audit.json").status == 7


def test_signature_of_another_purpose(command, signed, keys):
    """A signature that the same key made for something else does not count."""
    path = signed / "audit.json.manifest.json"
    path.with_name(path.name + ".sig").unlink()
    arguments = ["ssh-keygen", "-q", "-Y", "sign", "-f", keys / "mine", "-n", "file", path]
    subprocess.run(arguments, check=True, capture_output=True)
    assert verify(command, signed, "audit.json", "--signer", str(keys / "mine.pub")).status == 7


def test_without_ssh_keygen(command, signed, plain):
    """Where ssh-keygen is missing a signed export cannot be judged, and that is said; an unsigned one can."""
    ended = verify(command, signed, "audit.json", PATH="/nowhere")
    assert ended.status == 2
    assert "needs ssh-keygen" in ended.stderr
    assert "install OpenSSH" in ended.stderr
    assert verify(command, plain.parent, "plain.json", PATH="/nowhere").status == 0


def test_memory_does_not_grow(plain, tmp_path):
    """An export fifty times as large takes no more than a few megabytes more to verify."""
    template = json.loads(split_lines(plain)[0])
    peaks = []
    for number, count in enumerate((1_000, 50_000)):
        output = tmp_path / f"{number}.json"
        manifest = parse_manifest(plain)
        lines = [json.loads(line) for line in plain.with_name(manifest.ledger.name).read_bytes().splitlines()]
        shard = next(line for line in lines if line.get("status") == "complete")
        with output.open("w") as file:
            for index in range(count):
                event = {**template, "eventId": f"id-{index:09}", "eventTime": "2025-06-02T00:00:00Z"}
                file.write(("[\n" if index == 0 else ",\n") + json.dumps(event))
            file.write("\n]\n")
        totals = msgspec.structs.replace(manifest.totals, scanned=count, written=count, filtered=0, identical=0)
        entry = msgspec.structs.replace(manifest.ledger, name=f"{number}.json.ledger.ndjson")
        statement = msgspec.structs.replace(manifest, totals=totals, ledger=entry)
        forge_manifest(output, statement, shards=[{**shard, "events": count, "start": START, "end": SECOND}])
        peaks.append(measure_peak([find_command("oci-audit"), "verify", str(output)]))
    assert check(output).verdict.kind == "complete"
    assert output.stat().st_size > 50 * (1 << 20)
    assert peaks[1] - peaks[0] < 48


MEASURE = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def measure_peak(command: list[str]) -> float:
    """Run a command that succeeds and return its peak memory in megabytes."""
    done = subprocess.run([sys.executable, "-c", MEASURE, *command], capture_output=True, text=True, check=True)
    code, peak = map(int, done.stdout.split())
    assert code == 0
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def test_compressed_by_somebody_else(folder):
    """An output that was compressed again, with the same content, is not the file that was stated."""
    path = folder / "packed.json.gz"
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content, compresslevel=1))
    assert path.name in {file for file, _ in list_problems(path)}
