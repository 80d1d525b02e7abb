"""The floors of the house: who may import whom.

- A file imports only from floors below its own, or from its own folder.
- Nothing imports in a circle, lazily or not.
- The program and its emulator import nothing of each other.
- The emulator needs aiohttp and cryptography alone.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence

from support.sources import Import, SourceFile, Violation

PROGRAM = "ociaudit"
EMULATOR = "ociaudit_emulator"

FLOORS = {
    "errors": 1,
    "version": 1,
    "events": 2,
    "plan": 2,
    "source": 3,
    "store": 3,
    "formats": 3,
    "jobs": 4,
    "insight": 4,
    "library": 5,
    "cli": 5,
    "__init__": 5,  # the face of the package: what is in it is the library's
    "__main__": 6,
}
SAME_FLOOR_IMPORTS = {("cli", "library"), ("cli", "__init__"), ("__init__", "library")}
EMULATOR_MAY_IMPORT = sys.stdlib_module_names | {EMULATOR, "aiohttp", "cryptography", "multidict", "yarl"}


def find_floor_violations(sources: Sequence[SourceFile]) -> list[Violation]:
    """Everything in these files that imports upwards, sideways, across or in a circle."""
    found = [violation for source in sources for violation in _check_imports(source)]
    return sorted([*found, *_find_circles(sources)])


def _check_imports(source: SourceFile) -> Iterator[Violation]:
    if source.parts[0] == EMULATOR:
        yield from _check_emulator_imports(source)
        return
    unit = source.parts[1]
    if unit not in FLOORS:
        yield Violation(source.path, 1, "floor", f"{unit!r} stands on no floor: give it one")
        return
    for imported in source.imports:
        package = imported.name.partition(".")[0]
        if package == EMULATOR:
            what = "imports the emulator, which is only ever started as a process"
            yield Violation(source.path, imported.line, "apart", what)
        elif package == PROGRAM and (what := _judge_import(unit, imported)):
            yield Violation(source.path, imported.line, "floor", what)


def _check_emulator_imports(source: SourceFile) -> Iterator[Violation]:
    for imported in source.imports:
        package = imported.name.partition(".")[0]
        if package not in EMULATOR_MAY_IMPORT:
            yield Violation(source.path, imported.line, "apart", f"the emulator imports {package}")


def _judge_import(unit: str, imported: Import) -> str:
    """What is wrong with this import of the program's own modules; empty when nothing is."""
    target = _find_unit(imported.name)
    if target == unit:
        return ""
    if unit == "__init__" and not imported.is_lazy and FLOORS[target] > 1:
        return f"imports {imported.name} at once: the package's face imports lazily, so that --help is quick"
    if FLOORS[target] < FLOORS[unit] or (unit, target) in SAME_FLOOR_IMPORTS:
        return ""
    return f"{unit} (floor {FLOORS[unit]}) imports {imported.name} (floor {FLOORS[target]})"


def _find_unit(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOORS else "__init__"


def _find_circles(sources: Iterable[SourceFile]) -> Iterator[Violation]:
    by_name = {_module_name(source): source for source in sources}
    graph = {name: _find_edges(source, by_name) for name, source in by_name.items()}
    reported: set[str] = set()
    for name in sorted(graph):
        circle = _find_path(graph, name, name)
        if circle and reported.isdisjoint(circle):
            reported.update(circle)
            line = graph[name][circle[1]]
            yield Violation(by_name[name].path, line, "circle", " → ".join(circle))


def _module_name(source: SourceFile) -> str:
    return ".".join(source.parts[:-1] if source.parts[-1] == "__init__" else source.parts)


def _find_edges(source: SourceFile, by_name: dict[str, SourceFile]) -> dict[str, int]:
    """The modules that a file imports by name, each with the line of the import."""
    edges: dict[str, int] = {}
    for imported in source.imports:
        owner = imported.name.rpartition(".")[0]
        target = imported.name if imported.name in by_name else owner
        if target in by_name and target != PROGRAM:
            edges.setdefault(target, imported.line)
    return edges


def _find_path(graph: dict[str, dict[str, int]], start: str, goal: str) -> list[str]:
    """A shortest way along at least one import from start to goal; empty when there is none."""
    ways = [[start]]
    seen: set[str] = set()
    for way in ways:
        for target in graph.get(way[-1], {}):
            if target == goal:
                return [*way, goal]
            if target not in seen:
                seen.add(target)
                ways.append([*way, target])
    return []
