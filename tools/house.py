#!/usr/bin/env python3
"""How the package is built: its size, its longest pieces, and which way its imports point.

    python tools/house.py

Packages stand in one order (`ORDER`); an import that points to a package further down it is an arrow up. The
last line is JSON: lines and files of the package, arrows up, cycles of packages, lines of the longest file
and of the longest function.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "msdet"

ORDER = [
    *("renamed", "conventions", "errors", "components", "io", "dsp", "arrays", "corpora", "scenes", "data"),
    *("models", "losses", "tasks", "training", "scoring", "methods", "inference", "diagnostics", "plots"),
    *("report", "export", "hub", "__init__", "commands", "cli", "__main__"),
]
"""What may be imported stands further left."""

FLOWS = {
    "scene -> batch": ("data.dataset", "DynamicMixingDataset"),
    "file -> WAVs": ("commands.separate", "separate"),
    "estimate -> report": ("commands.report", "report"),
    "a loss": ("losses", "si_sdr_loss"),
    "a beam": ("methods.beamformers", "lcmv"),
}
"""Ways through the code that a reader follows: module and name where each begins."""

BASE = ("conventions", "errors", "components", "io")
"""Known after the first flow; they are not counted again."""


class Module:
    """One file: its tree, what it imports, and what it defines."""

    def __init__(self, path: Path) -> None:
        parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
        self.name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        text = path.read_text(encoding="utf-8")
        self.lines = text.count("\n")
        self.tree = ast.parse(text)
        self.imports: dict[str, tuple[str, str]] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
                source = (node.module or "").removeprefix(PACKAGE).lstrip(".") or "__init__"
                self.imports |= {a.asname or a.name: (source, a.name) for a in node.names if a.name != "__version__"}
        self.defined = {name: node for node in self.tree.body for name in _names(node)}

    @property
    def package(self) -> str:
        """First part of the name."""
        return self.name.split(".")[0]

    def targets(self, modules: dict[str, Module]) -> set[str]:
        """Modules that this one imports from."""
        return {_module_of(source, name, modules) for source, name in self.imports.values()}


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [x.id for t in node.targets for x in ast.walk(t) if isinstance(x, ast.Name)]
    return [node.target.id] if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) else []


def _module_of(source: str, name: str, modules: dict[str, Module]) -> str:
    """The module that ``from source import name`` reads: a module of that name, or `source` itself."""
    inner = name if source == "__init__" else f"{source}.{name}"
    return inner if inner in modules else source


def functions(module: Module) -> Iterator[tuple[int, str]]:
    """Lines and place of each function."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield (node.end_lineno or node.lineno) - node.lineno + 1, f"{module.name}:{node.name}"


def arrows_up(modules: dict[str, Module]) -> list[str]:
    """Imports that point to a package further right in `ORDER`."""
    up = []
    for module in modules.values():
        for target in sorted(module.targets(modules)):
            package = target.split(".")[0]
            if ORDER.index(package) > ORDER.index(module.package):
                up.append(f"{module.name} -> {target}")
    return up


def cycles(modules: dict[str, Module]) -> list[str]:
    """Packages that reach each other by their imports."""
    reach = {m.package: set[str]() for m in modules.values()}
    for module in modules.values():
        reach[module.package] |= {t.split(".")[0] for t in module.targets(modules)} - {module.package}
    for middle in reach:
        for ends in reach.values():
            if middle in ends:
                ends |= reach[middle]
    return [f"{a} <-> {b}" for a in reach for b in reach if a < b and b in reach[a] and a in reach[b]]


def flow(start: tuple[str, str], modules: dict[str, Module]) -> set[str]:
    """Files that hold what a name uses, followed name by name."""
    seen, left = set[tuple[str, str]](), [start]
    while left:
        place = left.pop()
        module = modules.get(place[0])
        if place in seen or module is None:
            continue
        seen.add(place)
        if place[1] in module.imports and place[1] not in module.defined:
            source, name = module.imports[place[1]]
            left.append((source, name))
            continue
        for node in ast.walk(module.defined.get(place[1], ast.Module([], []))):
            if isinstance(node, ast.Name) and node.id in module.imports:
                left.append(module.imports[node.id])
            elif isinstance(node, ast.Name) and node.id in module.defined:
                left.append((module.name, node.id))
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                source, name = module.imports.get(node.value.id, ("", ""))
                left.append((_module_of(source, name, modules), node.attr))
    return {m for m, name in seen if name in modules[m].defined and m.split(".")[0] not in BASE}


def main() -> None:
    """Print sizes, arrows, cycles and flows."""
    found = [Module(path) for path in sorted((ROOT / PACKAGE).rglob("*.py"))]
    modules = {module.name: module for module in found}
    for package in ORDER:
        inside = [m for m in found if m.package == package]
        if inside:
            print(f"{package:12} {len(inside):4} files {sum(m.lines for m in inside):6} lines")
    up, round_trips = arrows_up(modules), cycles(modules)
    longest = max(found, key=lambda m: m.lines)
    length, function = max(f for m in found for f in functions(m))
    short = [m.name for m in found if m.lines < 25 and not _is_package(m)]
    for title, rows in (("arrows up", up), ("cycles", round_trips), ("under 25 lines", short)):
        print(f"\n{title}: {len(rows)}", *rows, sep="\n  ")
    print(f"\nlongest file {longest.name}, longest function {function}")
    print(f"\nfiles opened, {', '.join(BASE)} apart:")
    for title, start in FLOWS.items():
        print(f"  {title:20} {len(flow(start, modules)):3}")
    figures = {
        "lines": sum(m.lines for m in found), "files": len(found), "up": len(up), "cycles": len(round_trips),
        "longest_file": longest.lines, "longest_function": length,
    }  # fmt: skip
    print(json.dumps(figures))


def _is_package(module: Module) -> bool:
    folder = ROOT / PACKAGE / Path(*module.name.split("."))
    return module.name == "__init__" or (folder / "__init__.py").exists()


if __name__ == "__main__":
    main()
