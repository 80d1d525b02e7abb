from pathlib import Path

import pytest

from ociaudit.archive.inputs import FileInput
from ociaudit.errors import UsageError
from ociaudit.operations.context import Callbacks
from ociaudit.operations.convert import choose_inputs


def make_inputs(folder: Path, count: int) -> list[FileInput]:
    """Return inputs that are small files."""
    paths = [folder / f"{number}.json" for number in range(count)]
    for path in paths:
        path.write_bytes(b"[]")
    return [FileInput(path) for path in paths]


def test_no_input_is_looked_at_for_each_other_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The work on many inputs grows with their number, not with its square."""
    looks = []
    look = Path.stat
    monkeypatch.setattr(Path, "stat", lambda self, **options: [looks.append(self), look(self, **options)][1])
    calls = []
    for count in (50, 100):
        looks.clear()
        assert len(choose_inputs(make_inputs(tmp_path, count), Callbacks())) == count
        calls.append(len(looks))
    assert calls[1] <= 2.2 * calls[0]


@pytest.mark.parametrize("way", ["the same name", "a link", "a hard link", "stdin"])
def test_an_input_that_is_named_twice_is_rejected(tmp_path: Path, way: str) -> None:
    """Its events would be there twice."""
    inputs = make_inputs(tmp_path, 3)
    again = tmp_path / "again.json"
    if way == "stdin":
        inputs += [FileInput(None), FileInput(None)]
    else:
        if way == "a link":
            again.symlink_to(tmp_path / "1.json")
        elif way == "a hard link":
            again.hardlink_to(tmp_path / "1.json")
        inputs.append(FileInput(tmp_path / "1.json" if way == "the same name" else again))
    with pytest.raises(UsageError, match=r"twice|the same file"):
        choose_inputs(inputs, Callbacks())
