from pathlib import Path

import pytest

from ociaudit.errors import UsageError
from ociaudit.formats.form import COMPRESSION_NAMES, FORMAT_NAMES, choose_form


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.json", ("json", "none")),
        ("a.ndjson", ("ndjson", "none")),
        ("a.jsonl", ("ndjson", "none")),
        ("a.csv", ("csv", "none")),
        ("a.parquet", ("parquet", "none")),
        ("a.json.gz", ("json", "gz")),
        ("a.ndjson.zst", ("ndjson", "zst")),
        ("A.CSV.GZ", ("csv", "gz")),
        ("a.gz", ("json", "gz")),
        ("a.2025-12-01.json", ("json", "none")),
        ("a", ("json", "none")),
        (".json", ("json", "none")),
        ("gz", ("json", "none")),
        (".gz", ("json", "none")),
        (None, ("json", "none")),
    ],
)
def test_a_name_says_the_form(name, form) -> None:
    """The last suffixes count, whatever their case; without one, and for stdout, it is JSON."""
    chosen = choose_form(Path(name) if name is not None else None)
    assert ((chosen.format, chosen.compression), chosen.notices) == (form, ())


@pytest.mark.parametrize(
    "name", ["a.txt", "a.xlsx", "a.json.bz2", "a.tsv", "a.12.01", "a.txt.gz", "a.json.gz.zst", "a.gz.gz"]
)
def test_an_unknown_suffix_is_refused(name: str) -> None:
    """It is named, with what there is; in words any name will do."""
    with pytest.raises(UsageError, match=r"suffix \.") as caught:
        choose_form(Path(name))
    assert ".parquet" in caught.value.hint
    assert choose_form(Path(name), file_format="csv", compression="none").format == "csv"


@pytest.mark.parametrize("file_format", FORMAT_NAMES)
@pytest.mark.parametrize("compression", COMPRESSION_NAMES)
@pytest.mark.parametrize("name", ["a.json", "a.csv.gz", "a.txt", "a", None])
def test_words_win_over_the_suffix(file_format, compression, name) -> None:
    """What is said in words holds, with a notice for every suffix that says something else; Parquet is refused where
    nobody could read it.
    """
    path = Path(name) if name else None
    if file_format == "parquet" and (compression != "none" or path is None):
        with pytest.raises(UsageError):
            choose_form(path, file_format=file_format, compression=compression)
        return
    form = choose_form(path, file_format=file_format, compression=compression)
    assert (form.format, form.compression) == (file_format, compression)
    differs = {"a.json": [file_format != "json"], "a.csv.gz": [file_format != "csv", compression != "gz"]}
    assert len(form.notices) == sum(differs.get(name, []))
    assert all(name in notice and "--" in notice for notice in form.notices)


@pytest.mark.parametrize("name", ["a.parquet.gz", "a.parquet.zst"])
def test_parquet_is_not_compressed_twice(name: str) -> None:
    """No reader would open it."""
    with pytest.raises(UsageError, match="compressed inside"):
        choose_form(Path(name))


def test_parquet_is_no_stream() -> None:
    """It goes to a file."""
    with pytest.raises(UsageError, match="stdout"):
        choose_form(None, file_format="parquet")


@pytest.mark.parametrize("given", [{"file_format": "xml"}, {"compression": "zip"}])
def test_an_unknown_word_is_refused(given) -> None:
    """The library takes any text; it names what there is."""
    with pytest.raises(UsageError, match="there is no") as caught:
        choose_form(Path("a.json"), **given)
    assert "choose one of" in caught.value.hint
