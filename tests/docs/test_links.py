from pathlib import Path

import pytest

from support.documents import list_anchors, list_links, make_anchor

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def find_dead_links(path: Path) -> list[str]:
    """The relative links of a document that lead nowhere."""
    dead = []
    for target in list_links(path):
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        is_there = file.exists() and file.is_relative_to(ROOT)
        if not is_there or (anchor and anchor not in list_anchors(file)):
            dead.append(target)
    return dead


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_relative_links_lead_somewhere(path: Path) -> None:
    """Every relative link of a document names a file of the repository, and a heading in it."""
    assert find_dead_links(path) == []


def test_the_index_has_every_page() -> None:
    """docs/README.md links to every page of the documentation; the decisions have an index of their own."""
    for folder, pages in ((ROOT / "docs", "*/*.md"), (ROOT / "docs/adr", "*.md")):
        linked = {(folder / target.partition("#")[0]).resolve() for target in list_links(folder / "README.md")}
        own = {path for path in folder.glob(pages) if path.parent.name != "adr" or folder.name == "adr"}
        assert own - linked - {folder / "README.md"} == set()


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    """A missing file and a missing heading are both dead, and a web address is not looked at."""
    document = tmp_path / "x.md"
    document.write_text("# One `two`\n[a](#one-two) [b](#three) [c](gone.md) [d](https://example.com)\n")
    assert "gone.md" in find_dead_links(document)
    assert make_anchor("One `two`") in list_anchors(document)
    assert "three" not in list_anchors(document)
