"""The public names of neva_tl, read from the source without importing it: torch alone takes longer than the whole site."""

from __future__ import annotations

import ast
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "neva_tl"
#: A module of the stub whose name leads to another one at run time (`_ALIASES` of the package).
MOVED = {"neva_tl.core.values": "neva_tl.core.theories.schwartz"}


@dataclass(frozen=True)
class Name:
    """A public name.

    Attributes:
        path: The name as users write it, `nv.circuits.circuit`.
        module: The module that defines it.
        target: Its name there.
        kind: Function, class, constant, or the name of another module.
        summary: First line of its docstring, or of the comment above a constant.
    """

    path: str
    module: str
    target: str
    kind: Literal["function", "class", "constant", "module"]
    summary: str

    @property
    def origin(self) -> str:
        """Its full import path, which is also its anchor on the site."""
        return f"{self.module}.{self.target}" if self.kind != "module" else self.module


@dataclass(frozen=True)
class Room:
    """A module whose `__all__` is public.

    Attributes:
        path: `nv`, or `nv.circuits`.
        module: Its import path.
        text: Its docstring.
        names: What its `__all__` lists.
    """

    path: str
    module: str
    text: str
    names: tuple[Name, ...]


@functools.cache
def source(module: str) -> Path | None:
    """Return the file of a module of the package; None where there is none. The root's names are in its stub."""
    path = ROOT.joinpath(*module.split("."))
    if module == PACKAGE:
        return path / "__init__.pyi"
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


@functools.cache
def tree(module: str) -> ast.Module:
    """Return the parsed source of a module."""
    file = source(module)
    assert file is not None, module
    return ast.parse(file.read_text(encoding="utf-8"))


@functools.cache
def bindings(module: str) -> dict[str, ast.AST | tuple[str, str]]:
    """Return what each name at the top of a module is: its statement, or the module and name that it is imported from."""
    names: dict[str, ast.AST | tuple[str, str]] = {}
    statements = [*tree(module).body]
    for node in statements:
        if isinstance(node, ast.If):  # names of a lazy module are imported under TYPE_CHECKING
            statements += node.body
        elif isinstance(node, ast.ImportFrom):
            package = module if node.level and str(source(module)).endswith(("__init__.py", "__init__.pyi")) else ""
            base = ".".join(part for part in (package, node.module) if part)
            names |= {alias.asname or alias.name: (base, alias.name) for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names[node.name] = node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names[node.target.id] = node
        elif isinstance(node, ast.Assign):
            names |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
    return names


def resolve(module: str, name: str) -> tuple[str, str, ast.AST | None]:
    """Follow imports and aliases to the definition of a name.

    Returns:
        Module, name there and statement; a module has an empty name and no statement.
    """
    bound = bindings(module).get(name)
    if isinstance(bound, tuple) and bound != (module, name):
        return resolve(*bound)
    if bound is None or isinstance(bound, tuple):  # `from . import name`
        if f"{module}.{name}" in MOVED:
            return MOVED[f"{module}.{name}"], "", None
        assert source(f"{module}.{name}") is not None, f"{module}.{name} is defined nowhere"
        return f"{module}.{name}", "", None
    if isinstance(bound, ast.Assign) and isinstance(bound.value, ast.Name):
        return resolve(module, bound.value.id)
    return module, name, bound


def exported(module: str) -> list[str]:
    """Return the names of a module's `__all__`, in its order; of the root those of its stub."""
    if module == PACKAGE:
        return sorted(name for name in bindings(module) if not name.startswith("_"))
    statement = bindings(module)["__all__"]
    assert isinstance(statement, ast.Assign)
    if isinstance(statement.value, ast.List):
        return list(ast.literal_eval(statement.value))
    table = bindings(module)["_NAMES"]  # a lazy module: its names are the keys of a table
    assert isinstance(table, ast.Assign) and isinstance(table.value, ast.Dict)
    return sorted(key.value for key in table.value.keys if isinstance(key, ast.Constant))


def comment(module: str, node: ast.AST) -> str:
    """Return the `#:` comment above a statement."""
    file, line = source(module), getattr(node, "lineno", 1)
    lines = file.read_text(encoding="utf-8").splitlines()[: line - 1] if file else []
    text: list[str] = []
    while lines and lines[-1].startswith("#:"):
        text.insert(0, lines.pop()[2:].strip())
    return " ".join(text)


def describe(path: str, module: str, name: str) -> Name:
    """Return a public name with its definition and its summary."""
    owner, target, node = resolve(module, name)
    if node is None:
        return Name(path, owner, "", "module", (ast.get_docstring(tree(owner)) or "").split("\n", 1)[0])
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        kind: Literal["function", "class"] = "function" if isinstance(node, ast.FunctionDef) else "class"
        return Name(path, owner, target, kind, (ast.get_docstring(node) or "").split("\n", 1)[0])
    return Name(path, owner, target, "constant", comment(owner, node))


@functools.cache
def rooms() -> tuple[Room, ...]:
    """Return the root and every room that it exposes, the root first; a room of two names has the name of its folder."""
    queue, result, modules = [("nv", PACKAGE)], list[Room](), {PACKAGE}
    for path, module in queue:  # grows
        names = [describe(f"{path}.{name}", module, name) for name in exported(module)]
        for one in sorted(names, key=lambda n: n.path.rsplit(".", 1)[1] != n.module.rsplit(".", 1)[1]):
            if one.kind == "module" and one.module not in modules:
                modules.add(one.module)
                queue.append((one.path, one.module))
        root = ast.parse((ROOT / PACKAGE / "__init__.py").read_text("utf-8")) if module == PACKAGE else tree(module)
        result.append(Room(path, module, ast.get_docstring(root) or "", tuple(names)))
    return tuple(result)


def pages() -> dict[str, str]:
    """Return the page of every public definition: import path -> `reference/...md`. The shortest path of a name wins."""
    files: dict[str, str] = {}
    for room in rooms():
        for name in room.names:
            if name.kind != "module":
                last = name.path.rsplit(".", 1)[1]
                own = room.path == "nv" and name.kind != "constant"
                files.setdefault(name.origin, f"reference/names/{last}.md" if own else room_page(room))
    return files


def room_page(room: Room) -> str:
    """Return the page of a room."""
    return "reference/constants.md" if room.path == "nv" else f"reference/rooms/{room.path.removeprefix('nv.')}.md"
