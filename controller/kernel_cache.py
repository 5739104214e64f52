"""Keeps the compiled kernels of a module in a folder named by a hash of every source they are compiled from.

numba's on-disk cache does not see a change in a function that lives in another file: it would go on returning results
of the old callee. So each module that defines kernels has a folder whose name hashes the module and all of ours that it
imports, however far: an edit starts a fresh cache for what depends on the edited file, and for nothing else.

Functions that kernels alone call are kept as well, with what they are compiled to before they are linked: so what two
entry points have in common is compiled once, and an edit costs what depends on it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

# At numba's own level of 3 kernels take longer to compile and whole days are no faster. numba reads the variable
# whenever it compiles; one that is set already is left as it is.
_OPT = os.environ.setdefault("NUMBA_OPT", "1")

PACKAGES = ("controller", "envs")
"""Packages of ours that kernels import from."""

_IMPORT = re.compile(rf"^\s*(?:from|import)\s+((?:{'|'.join(PACKAGES)})[\w.]*)(?:\s+import\s+(.+))?", re.MULTILINE)


@cache
def sources_of(module: str) -> tuple[Path, ...]:
    """Files of a module and of every module of ours that it imports, directly or not, in a fixed order.

    Args:
        module: Dotted name, of `PACKAGES`.
    """
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _file_of(name)
        if path is not None and name not in found:
            found[name] = path
            waiting += _imports_of(path)
    return tuple(found[name] for name in sorted(found))


@cache
def source_hash(module: str) -> str:
    """Hash of all sources behind a module's kernels and of the versions that compile them, 16 hex digits.

    Args:
        module: As for `sources_of`.
    """
    digest = hashlib.sha256(_compiler())
    for path in sources_of(module):
        digest.update(path.name.encode())
        digest.update(_digest_of(path))
    return digest.hexdigest()[:16]


def cache_root() -> Path:
    """Folder that holds one cache per hash: `PROVISOR_CACHE`, or the user's cache folder."""
    chosen = os.environ.get("PROVISOR_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))) / "provisor"


def kernel_folder(module: str) -> Path:
    """Folder for the compiled kernels of a module's present sources."""
    return cache_root() / "kernels" / f"{module}-{source_hash(module)}"


@contextmanager
def keyed_cache(module: str) -> Iterator[None]:
    """Lets numba cache what is declared meanwhile, which is a kernel of `module`, in that module's folder.

    numba notes the folder when a function is declared, so the setting is put back afterwards.
    """
    from numba.core import config

    settings = vars(config)  # CACHE_DIR is absent from numba's published types
    before = settings["CACHE_DIR"]
    settings["CACHE_DIR"] = str(kernel_folder(module))
    try:
        yield
    finally:
        settings["CACHE_DIR"] = before


@cache
def _file_of(module: str) -> Path | None:
    """File of a module; None where the name is no module (an imported function, say)."""
    parent, _, _ = module.rpartition(".")
    if parent and (_file_of(parent) or Path()).name != "__init__.py":
        return None
    spec = find_spec(module)
    return None if spec is None or spec.origin is None else Path(spec.origin)


@cache
def _imports_of(path: Path) -> tuple[str, ...]:
    """Modules of ours that a file may import: more than it does where a name is no module, never fewer."""
    names: list[str] = []
    for module, imported in _IMPORT.findall(path.read_text(encoding="utf-8")):
        names.append(module)
        names += [f"{module}.{name}" for name in re.findall(r"\w+", imported)]
    return tuple(names)


@cache
def _compiler() -> bytes:
    return f"{sys.version_info[:3]} {version('numba')} {version('numpy')} {platform.machine()} {_OPT}".encode()


@cache
def _digest_of(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()
