"""Every fault of docs/explanation/reliability.md has a test, and every fault that must be survived has its row."""

import ast
import re

ROW = re.compile(r"^\| .* \| `(tests/[\w/]+\.py)::(\w+)` \|$", re.MULTILINE)


def test_every_test_that_is_named_exists(repository):
    """The table names only tests that exist."""
    text = (repository / "docs/explanation/reliability.md").read_text("utf-8")
    named = ROW.findall(text)
    assert len(named) == len([line for line in text.splitlines() if line.startswith("| ")]) - 1
    assert len(named) > 25
    for file, name in named:
        tree = ast.parse((repository / file).read_text("utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{file}::{name}"
