import re
from pathlib import Path

import pytest

from ociaudit_emulator.command_line import main, make_parser, read_settings
from ociaudit_emulator.settings import PageSize, Settings


def parse(*arguments):
    """The settings that these flags describe."""
    return read_settings(make_parser().parse_args(arguments))


def test_without_flags_the_settings_are_the_defaults():
    """The defaults of the flags are the defaults of the settings."""
    assert parse() == Settings()


def test_every_flag_reaches_the_behaviour():
    """Each flag about events and responses changes its own field of the settings."""
    settings = parse(
        *("--seed", "7", "--events", "e.json", "--events-compartment", "c", "--events-region", "r"),
        *("--events-per-day", "10", "--page-size", "50-150", "--latency-ms", "1.5", "--rate-limit", "20"),
        *("--retry-after", "3", "--late-share", "0.25", "--late-minutes", "9", "--retention-days", "90"),
        *("--events-also", "r2=f.json", "--events-also", "r3=g=h.json", "--compartments", "40"),
        *("--delayed-share", "0.05", "--delayed-by", "1d2h", "--delay-distribution", "fixed", "--expired-empty"),
        *("--reserialised-share", "0.5", "--reserialised-after", "90s", "--changes", "changes.json"),
        *("--bucket", "b1", "--bucket", "b2", "--commit-unconditional"),
        *("--now", "2025-12-01T00:00:00Z", "--strict-minutes", "--self-audit", "--no-shuffle", "--gzip"),
    )
    assert settings == Settings(
        seed=7,
        events_file=Path("e.json"),
        events_compartment="c",
        events_region="r",
        more_events=(("r2", Path("f.json")), ("r3", Path("g=h.json"))),
        more_compartments=40,
        events_per_day=10,
        page_size=PageSize(50, 150),
        latency_ms=1.5,
        rate_limit_per_second=20.0,
        retry_after_seconds=3,
        late_share=0.25,
        late_minutes=9,
        retention_days=90,
        now_ms=1764547200000,
        delayed_share=0.05,
        delayed_by="1d2h",
        delay_distribution="fixed",
        reserialised_share=0.5,
        reserialised_after="90s",
        is_expired_empty=True,
        changes_file=Path("changes.json"),
        buckets=("b1", "b2"),
        is_commit_unconditional=True,
        is_strict_about_minutes=True,
        is_self_auditing=True,
        is_shuffling=False,
        is_gzip_allowed=True,
    )


@pytest.mark.parametrize(
    ("flag", "value", "expected"),
    [
        ("--port", "70000", "a port from 0 to 65535"),
        ("--port", "http", "a whole number from 0"),
        ("--page-size", "0", "a number from 1, or a range such as 50-150"),
        ("--page-size", "9-3", "a number from 1, or a range such as 50-150"),
        ("--page-size", "many", "a whole number from 0"),
        ("--events-also", "events.json", "a region and a file"),
        ("--events-also", "=events.json", "a region and a file"),
        ("--compartments", "-1", "a whole number from 0"),
        ("--latency-ms", "-1", "a number from 0"),
        ("--latency-ms", "soon", "a number from 0"),
        ("--rate-limit", "0", "a number above 0"),
        ("--rate-limit", "nan", "a number above 0"),
        ("--late-share", "1.5", "a number from 0 to 1"),
        ("--late-minutes", "0", "a whole number from 1"),
        ("--now", "yesterday", "2025-12-01T00:00:00Z"),
        ("--clock-start", "yesterday", "2025-12-01T00:00:00Z"),
        ("--delayed-by", "3", "a span such as 3h or 1d12h"),
        ("--delayed-by", "0m", "a span such as 3h or 1d12h"),
        ("--delay-distribution", "normal", "uniform"),
        ("--events-per-day", "1e6", "a whole number from 0"),
        ("--seed", "x", "invalid int value"),
    ],
)
def test_an_invalid_value_is_rejected_with_a_hint(capsys, flag, value, expected):
    """An invalid value ends with exit code 2 and a message with the valid values."""
    with pytest.raises(SystemExit) as ended:
        main([f"{flag}={value}"])
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert flag in printed
    assert expected in printed


def test_an_unknown_flag_is_rejected(capsys):
    """An unknown flag ends with exit code 2."""
    with pytest.raises(SystemExit) as ended:
        main(["--fast"])
    assert ended.value.code == 2
    assert "--fast" in capsys.readouterr().err


def test_a_missing_file_ends_with_exit_2(capsys, tmp_path):
    """A missing file of events ends with exit code 2 and a hint, before the server listens."""
    assert main(["--events", str(tmp_path / "none.json")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "choose a readable file" in captured.err


@pytest.mark.parametrize(
    "flags",
    [
        ("--tls-cert", "cert.pem"),
        ("--tls-key", "key.pem"),
        ("--tls-cert", "missing.pem", "--tls-key", "missing.pem"),
        ("--tls-cert", "garbage.pem", "--tls-key", "garbage.pem"),
    ],
)
def test_a_certificate_that_cannot_be_served_ends_with_exit_2(capsys, tmp_path, flags):
    """A certificate without a key, or an invalid file, ends with exit code 2 before the server listens."""
    (tmp_path / "garbage.pem").write_text("garbage")
    assert main([str(tmp_path / flag) if flag.endswith(".pem") else flag for flag in flags]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "--tls-cert" in captured.err


def test_every_flag_is_documented():
    """The documentation names every flag in the help."""
    text = (Path(__file__).parents[3] / "docs/reference/emulator.md").read_text(encoding="utf-8")
    flags = set(re.findall(r"--[a-z][a-z-]+", make_parser().format_help())) - {"--help"}
    assert flags <= set(re.findall(r"--[a-z][a-z-]+", text))
