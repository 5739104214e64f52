"""Whether the five top-level packages that Python finds are the ones of this project.

`envs`, `traces` and `controller` are also names of unrelated distributions on package indexes.
"""

from importlib.util import find_spec
from pathlib import Path

from controller.errors import UsageError

OWN_PACKAGES = ("controller", "envs", "experiments", "serving", "traces")


def require_own_packages() -> None:
    """Refuses to go on when another distribution shadows one of the project's packages.

    Raises:
        UsageError: Naming each package that resolves elsewhere and where.
    """
    root = Path(__file__).resolve().parents[1]
    strangers = []
    for name in OWN_PACKAGES:
        spec = find_spec(name)
        origin = Path(spec.origin).resolve() if spec is not None and spec.origin is not None else None
        if origin is None or origin.parent != root / name:
            strangers.append(f"{name}: expected {root / name}, got {origin.parent if origin else 'nothing'}")
    if strangers:
        found = "\n".join(strangers)
        raise UsageError(f"packages of another distribution hide those of provisor; uninstall it\n{found}")
