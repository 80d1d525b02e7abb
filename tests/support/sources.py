"""Source files as the checks of the house see them: parsed, with their imports and names resolved.

It reads text and never imports what it reads, so a module with a fault in it can be judged as well.
"""

import ast
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True, slots=True, order=True)
class Violation:
    """One rule broken in one place."""

    path: str
    line: int
    name_rule: str
    what: str

    def __str__(self) -> str:
        return f"src/{self.path}:{self.line}: [{self.name_rule}] {self.what}"


@dataclass(frozen=True, slots=True)
class Import:
    """One module named by one import: `from a import b` is `a.b`, and `is_lazy` inside a function."""

    name: str
    line: int
    is_lazy: bool


@dataclass(frozen=True)
class SourceFile:
    """One Python file: its path below `src/` with forward slashes, and its text."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed file."""
        return ast.parse(self.text, self.path)

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """The dotted name's parts, `__init__` included: `("ociaudit", "events", "__init__")`."""
        return tuple(self.path.removesuffix(".py").split("/"))

    @cached_property
    def comments(self) -> dict[int, str]:
        """The comments by line number, without what stands before them."""
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        return {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}

    @cached_property
    def imports(self) -> tuple[Import, ...]:
        """Every import, wherever it stands, and every `import_module("…")` with a literal name."""
        return tuple(self._find_imports(self.tree, is_lazy=False))

    @cached_property
    def aliases(self) -> dict[str, str]:
        """What each imported name stands for: `from os import replace as r` gives `r: os.replace`."""
        aliases: dict[str, str] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    aliases[alias.asname or alias.name.partition(".")[0]] = (
                        alias.name if alias.asname else alias.name.partition(".")[0]
                    )
            elif isinstance(node, ast.ImportFrom):
                origin = self._resolve_origin(node)
                for alias in node.names:
                    aliases[alias.asname or alias.name] = f"{origin}.{alias.name}"
        return aliases

    @cached_property
    def references(self) -> tuple[tuple[str, int], ...]:
        """Every name and dotted name that is read, resolved, with its line."""
        return tuple(
            (name, node.lineno)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load)
            if (name := self.resolve_name(node))
        )

    @cached_property
    def calls(self) -> tuple[tuple[str, ast.Call], ...]:
        """Every call with the resolved name of what is called; `(…).x()` is called `.x`."""
        return tuple((self.resolve_name(node.func), node) for node in ast.walk(self.tree) if isinstance(node, ast.Call))

    def resolve_name(self, node: ast.expr) -> str:
        """The dotted name of an expression with aliases replaced; empty when it begins with no name."""
        if isinstance(node, ast.Name):
            return self.aliases.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            return f"{self.resolve_name(node.value)}.{node.attr}"
        return ""

    def _find_imports(self, node: ast.AST, *, is_lazy: bool) -> Iterator[Import]:
        is_lazy = is_lazy or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        for child in ast.iter_child_nodes(node):
            for name in self._named_modules(child):
                yield Import(name, getattr(child, "lineno", 0), is_lazy)
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from self._find_imports(child, is_lazy=is_lazy or is_function)

    def _named_modules(self, node: ast.AST) -> list[str]:
        if isinstance(node, ast.Import):
            return [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            return [f"{self._resolve_origin(node)}.{alias.name}" for alias in node.names]
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called, literal = self.resolve_name(node.func), node.args[0].value
            if called in {"importlib.import_module", "__import__"} and isinstance(literal, str):
                return [literal]
        return []

    def _resolve_origin(self, node: ast.ImportFrom) -> str:
        base = self.parts[: len(self.parts) - node.level] if node.level else ()
        return ".".join([*base, *([node.module] if node.module else [])])


def read_sources(root: Path) -> list[SourceFile]:
    """Every Python file below a folder, in order."""
    return [
        SourceFile(path.relative_to(root).as_posix(), path.read_text(encoding="utf-8"))
        for path in sorted(root.rglob("*.py"))
    ]
