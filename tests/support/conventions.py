"""Conventions that a linter does not know.

- A module has at most 300 lines and a function at most 50, or a comment `# long because: …` says why:
  for a module right below its docstring, for a function above it or in its first lines.
- No bare or broad `except` outside `cli/`, unless it raises again what it caught.
- No module is named for being left over: utils, helpers, manager, common.
"""

import ast
import re
from collections.abc import Iterator, Sequence

from support.floors import PROGRAM
from support.sources import SourceFile, Violation

MAX_MODULE_LINES = 300
MAX_FUNCTION_LINES = 50
REASON = re.compile(r"# long because: \S")
REASON_WITHIN_LINES = 3
BROAD_ERRORS = {"BaseException", "Exception", "builtins.BaseException", "builtins.Exception"}
NAMES_THAT_SAY_NOTHING = re.compile(r"(?:.*_)?(?:utils?|helpers?|managers?|commons?|misc)$")

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


def find_convention_violations(sources: Sequence[SourceFile]) -> list[Violation]:
    """Everything in these files that is too long, catches too much or is named for nothing."""
    checks = (check_name, check_module_length, check_function_lengths, check_excepts)
    return sorted(violation for source in sources for check in checks for violation in check(source))


def check_name(source: SourceFile) -> Iterator[Violation]:
    """A file or folder whose name says nothing."""
    for part in source.parts:
        if NAMES_THAT_SAY_NOTHING.match(part):
            yield Violation(source.path, 1, "name", f"{part!r} says nothing about what is in it")


def check_module_length(source: SourceFile) -> Iterator[Violation]:
    """A module that is too long without a reason."""
    lines = len(source.text.splitlines())
    top = source.tree.body[0].end_lineno or 1 if ast.get_docstring(source.tree) is not None else 0
    if lines > MAX_MODULE_LINES and not _has_reason(source, 1, top + REASON_WITHIN_LINES):
        what = f"{lines} lines without a reason (`# long because: …`)"
        yield Violation(source.path, 1, "length", what)


def check_function_lengths(source: SourceFile) -> Iterator[Violation]:
    """Functions that are too long without a reason."""
    for node in ast.walk(source.tree):
        if not isinstance(node, FunctionNode):
            continue
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
        if lines > MAX_FUNCTION_LINES and not _has_reason(source, first, _find_head_end(node)):
            what = f"{node.name} has {lines} lines without a reason (`# long because: …`)"
            yield Violation(source.path, node.lineno, "length", what)


def check_excepts(source: SourceFile) -> Iterator[Violation]:
    """Handlers that catch everything, and `suppress(Exception)`."""
    if source.parts[:2] == (PROGRAM, "cli"):
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ExceptHandler) and _is_broad(source, node.type) and not _raises_again(node):
            yield Violation(source.path, node.lineno, "except", "catches everything: name what is expected")
    for name, call in source.calls:
        if name == "contextlib.suppress" and any(_is_broad(source, argument) for argument in call.args):
            yield Violation(source.path, call.lineno, "except", "suppresses everything")


def _has_reason(source: SourceFile, first: int, last: int) -> bool:
    comments = (source.comments.get(line, "") for line in range(first, last + 1))
    return any(REASON.match(comment) for comment in comments)


def _find_head_end(node: FunctionNode) -> int:
    """The last line on which a function's reason may stand: a few below its signature and docstring."""
    body = node.body[0]
    end = body.end_lineno if ast.get_docstring(node) is not None else body.lineno - 1
    return (end or node.lineno) + REASON_WITHIN_LINES


def _is_broad(source: SourceFile, caught: ast.expr | None) -> bool:
    if isinstance(caught, ast.Tuple):
        return any(_is_broad(source, each) for each in caught.elts)
    return caught is None or source.resolve_name(caught) in BROAD_ERRORS


def _raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None
