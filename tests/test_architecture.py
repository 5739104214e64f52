"""The rules of the layout, read from the source: who imports whom, how long a module is, what is documented."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = {
    "controller": {"controller"},
    "traces": {"traces", "controller"},
    "envs": {"envs", "controller", "traces"},
    "serving": {"serving", "controller"},
    "experiments": {"experiments", "controller", "envs", "serving", "traces"},
}
PACKAGES = tuple(ALLOWED)
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "base", "misc", "core"}
LONGEST = 400
LONG = 300
# Where a heavy library may stand at the top of a module: in packages whose modules are themselves imported on use.
MAY_IMPORT = {
    "numba": ("controller.kernels", "envs", "experiments"),
    "torch": ("envs", "serving", "experiments"),
    "stable_baselines3": ("envs", "experiments"),
    "ray": ("serving", "experiments"),
    "matplotlib": ("experiments",),
    "scipy": ("experiments",),
    "sklearn": ("serving", "experiments"),
    "tensorboard": ("experiments",),
    "optuna": ("experiments",),
    "highspy": (),
}
# Loaded by `provisor --help`, by the help of a verb or by `import controller`: light with all that they import.
LIGHT = ("controller.cli", *(f"{package}.commands" for package in PACKAGES), *PACKAGES)
# Answers requests: compiling or loading a model there would be paid in latency and memory by every router.
ROUTER = "serving.router"


@cache
def modules() -> dict[str, Path]:
    """Dotted name to file of every module of the five packages."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def nodes(root: ast.AST, *, at_import: bool) -> Iterator[ast.AST]:
    """All nodes below `root`; `at_import` leaves out what runs later (functions) or never (type checking)."""
    for child in ast.iter_child_nodes(root):
        if at_import and (
            isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or is_type_checking(child)
        ):
            continue
        yield child
        yield from nodes(child, at_import=at_import)


def imports(name: str, *, at_import: bool = False) -> set[str]:
    """Dotted names a module imports; `from a import b` counts as `a.b` where that is a module, else as `a`."""
    found = set()
    for node in nodes(tree(modules()[name]), at_import=at_import):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} line {node.lineno}: relative import"
            source = node.module or ""
            found |= {f"{source}.{a.name}" if f"{source}.{a.name}" in modules() else source for a in node.names}
    return found


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def test_modules_are_found() -> None:
    assert {name.partition(".")[0] for name in modules()} == set(PACKAGES)


def test_packages_import_only_what_the_table_allows() -> None:
    wrong = []
    for name in modules():
        # The command line reaches every package, inside its verbs only.
        names = imports(name, at_import=name == "controller.cli")
        package = name.partition(".")[0]
        wrong += [
            f"{name} imports {other}"
            for other in sorted(names)
            if other.partition(".")[0] in PACKAGES and other.partition(".")[0] not in ALLOWED[package]
        ]
    assert not wrong, "\n".join(wrong)


def test_no_import_cycles() -> None:
    graph = {name: {other for other in imports(name) if other in modules()} - {name} for name in modules()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name in done:
            return
        for other in sorted(graph[name]):
            visit(other, (*path, name))
        done.add(name)

    for name in graph:
        visit(name, ())


def test_no_module_is_named_after_nothing() -> None:
    wrong = [name for name in modules() if FORBIDDEN_NAMES & set(name.split("."))]
    assert not wrong, f"name these after what they hold: {wrong}"


def test_modules_are_short() -> None:
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in modules().items()}
    for name, length in sorted(lengths.items(), key=lambda item: -item[1]):
        if length > LONG:
            print(f"{name}: {length} lines, aim at {LONG}")
    assert not [name for name, length in lengths.items() if length > LONGEST]


@pytest.mark.parametrize("library", sorted(MAY_IMPORT))
def test_heavy_library_is_imported_on_use_only(library: str) -> None:
    wrong = [
        f"{name} imports {library} at its top"
        for name in modules()
        if any(within(other, library) for other in imports(name, at_import=True))
        and not any(within(name, package) for package in MAY_IMPORT[library])
    ]
    assert not wrong, "\n".join(wrong)


def loaded_with(name: str) -> dict[str, str]:
    """Everything that importing a module imports, each with the module that asks for it."""
    reached: dict[str, str] = {}
    waiting = [name]
    while waiting:
        here = waiting.pop()
        for other in imports(here, at_import=True):
            if other not in reached:
                reached[other] = here
                # A module's packages are run before it.
                parts = other.split(".")
                waiting += [p for n in range(1, len(parts) + 1) if (p := ".".join(parts[:n])) in modules()]
    return reached


@pytest.mark.parametrize("light", LIGHT)
def test_light_module_loads_no_heavy_library(light: str) -> None:
    if light not in modules():
        # A package without verbs has no commands module.
        return
    wrong = {name: by for name, by in loaded_with(light).items() if name.partition(".")[0] in MAY_IMPORT}
    assert not wrong, f"{light} loads {wrong}"


def test_router_loads_neither_compiler_nor_model_library() -> None:
    for router in [name for name in modules() if within(name, ROUTER)]:
        unwanted = {"numba", "torch", "stable_baselines3"}
        wrong = {name: by for name, by in loaded_with(router).items() if name.partition(".")[0] in unwanted}
        assert not wrong, f"{router} loads {wrong}"


def public_definitions(
    body: list[ast.stmt], prefix: str
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]]:
    """Public functions and classes with their public methods; overrides inherit their documentation."""
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        marks = {ast.unparse(mark).rpartition(".")[2] for mark in node.decorator_list}
        if marks & {"override", "overload", "setter"}:
            continue
        yield f"{prefix}{node.name}", node
        if isinstance(node, ast.ClassDef):
            yield from public_definitions(node.body, f"{prefix}{node.name}.")


def test_every_public_name_has_a_docstring() -> None:
    missing = []
    for name, path in modules().items():
        if ast.get_docstring(tree(path)) is None:
            missing.append(name)
        missing += [
            f"{name}:{qualified}"
            for qualified, node in public_definitions(tree(path).body, "")
            if ast.get_docstring(node) is None
        ]
    assert not missing, "\n".join(missing)
