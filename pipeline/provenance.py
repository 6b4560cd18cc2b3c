"""The code digest of a stage: a hash of every project module that it imports, blind to comments, form and messages.

Snakemake compares a rule's params with those of the last run but sees no imported module, so each rule carries this
digest among its params. Library versions are left out on purpose: they are recorded in every chunk instead.
"""

import ast
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "pipeline"
DIGITS = 16
MESSAGES = ("description", "help")  # keyword arguments that only people read
Parsed = tuple[str, list[tuple[int, str]]]
# as one Python says it: others write code anew in another way
KEPT = Path(__file__).parent / "__pycache__" / f"code.{sys.implementation.cache_tag}.json"
MOST_KEPT = 2000  # texts, of some 300 files
_new: list[str] = []  # hashes of what is not kept yet


def digest(*modules: str, root: Path = ROOT, without: Iterable[str] = ()) -> str:
    """Hex digest of the import closures of modules such as "pipeline.stages.mesh" (read from source, not imported).

    Modules in `without` do not count, nor does what errors, log lines and descriptions say: no file depends on it.
    """
    result = hashlib.sha256()
    for name in sorted(set().union(*(closure(module, root) for module in modules)) - set(without)):
        text = _parse(_source(name, root))[0]
        result.update(f"{name}\n{text}\n".encode())
    if root == ROOT:
        _keep()
    return result.hexdigest()[:DIGITS]


def closure(module: str, root: Path = ROOT) -> set[str]:
    """Names of all project modules that importing a module may load, itself and the parent packages included.

    Imports inside functions count. Raises ModuleNotFoundError when the module has no source file.
    """
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        path = _source(name, root)
        found.add(name)
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        waiting += [parent for parent in (package, package.rpartition(".")[0]) if parent]
        waiting += [imported for imported in _imports(path, package) if _exists(imported, root)]
    return found


def _source(name: str, root: Path) -> Path:
    base = root.joinpath(*name.split("."))
    for path in (base.with_name(f"{base.name}.py"), base / "__init__.py"):
        if path.is_file():
            return path
    raise ModuleNotFoundError(f"no source file for {name} under {root}", name=name)


def _exists(name: str, root: Path) -> bool:
    try:
        _source(name, root)
    except ModuleNotFoundError:
        return False  # `from module import function` also yields the candidate "module.function"
    return True


def _imports(path: Path, package: str) -> Iterator[str]:
    """Absolute names of what a file may import from the project."""
    for level, name in _parse(path)[1]:
        if level:
            parent = package.split(".")[: len(package.split(".")) - level + 1]
            name = ".".join([*parent, name]) if name else ".".join(parent)
        if name.split(".")[0] == PACKAGE:
            yield name


def _parse(path: Path) -> Parsed:
    """The normalised text of a file and its imports as (relative level, dotted name)."""
    return _parse_text(path.read_text())


@cache
def _parse_text(text: str) -> Parsed:
    """To parse all files takes most of a second, so that what was parsed once, by any process, is kept."""
    key, known = hashlib.sha256(text.encode()).hexdigest(), _kept()
    if key not in known:
        known[key] = _normalised(text)
        _new.append(key)
    normalised, imports = known[key]
    return normalised, [(level, name) for level, name in imports]


@cache
def _kept() -> dict[str, Parsed]:
    """What earlier processes parsed, by the hash of the text."""
    try:
        return json.loads(KEPT.read_text())
    except (OSError, ValueError):  # none yet, or one that is damaged: it is made anew
        return {}


def _keep() -> None:
    """Keep what was parsed in this process for the next one, beside Python's own compiled files, where these may be."""
    if not _new:
        return
    known, own = _kept(), KEPT.with_suffix(f".{os.getpid()}")
    chosen = known if len(known) <= MOST_KEPT else {key: known[key] for key in _new}
    with suppress(OSError):
        KEPT.parent.mkdir(exist_ok=True)
        own.write_text(json.dumps(chosen))
        own.replace(KEPT)
    _new.clear()


def _normalised(text: str) -> Parsed:
    tree = ast.parse(text)
    statements = [tree, *_statements(tree)]
    imports = list(_import_names(statements))
    for node in statements:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [part for part in node.body if not _is_bare_string(part)] or [ast.Pass()]
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        called = ast.unparse(call.func)
        if called.endswith(("Error", "Exception", "progress.update")) or ".log." in f".{called}":
            call.args, call.keywords = [], []
        call.keywords = [keyword for keyword in call.keywords if keyword.arg not in MESSAGES]
    return ast.unparse(tree), imports


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """All statements below a node, and what holds statements; no expressions, which are most of a file."""
    for name in ("body", "orelse", "handlers", "finalbody", "cases"):
        below = getattr(node, name, None)
        for child in below if isinstance(below, list) else []:
            yield child
            yield from _statements(child)


def _is_bare_string(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _import_names(nodes: Iterable[ast.AST]) -> Iterator[tuple[int, str]]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            yield node.level, base
            yield from ((node.level, f"{base}.{alias.name}".lstrip(".")) for alias in node.names)
