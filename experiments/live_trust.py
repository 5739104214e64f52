"""What a live run is told of trust: the mode it begins in and how its admin API is opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from controller.compile import Setting
from controller.policies.registry import make_policy
from controller.trust.desk import kept_mode
from controller.trust.mode import starting_mode
from controller.trust.store import PolicyStore, policy_path
from experiments.live import LiveOptions
from serving.admin import token_digest
from serving.admin_access import run_token, write_access
from serving.trusted import AdminSpec, TrustSpec


def trust_spec(
    options: LiveOptions, setting: Setting, is_own_cluster: bool, say: Callable[[str], None]
) -> tuple[TrustSpec, Path | None]:
    """What the controller is told, and the file that holds the admin API's token, where there is one.

    Args:
        options: Of the run.
        setting: Of the run.
        is_own_cluster: Whether the controller runs on this machine, where the named policy file can be watched.
        say: Prints one line.

    Raises:
        UsageError: A token file cannot be read, or its token is too short.
        PolicyFileError: The policy file cannot be read, or its copy cannot be kept.
    """
    entry = PolicyStore(options.out).entry(options.policy)
    is_known = getattr(make_policy(options.policy, setting), "is_known_catalog", True)
    mode, why = starting_mode(options.mode, kept_mode(options.out, entry), is_known_catalog=is_known)
    say(f"mode {mode}: {why}")
    admin = token_path = None
    if options.has_admin:
        token, token_path = run_token(options.out, options.token_file)
        admin = AdminSpec(options.admin_host, options.admin_port, token_digest(token))
    named = policy_path(options.policy)
    original = "" if named is None or not is_own_cluster else str(named.resolve())
    return TrustSpec(mode, options.trust, original, admin), token_path


def note_admin(folder: Path, url: str, token_path: Path | None, say: Callable[[str], None]) -> None:
    """Leaves in a run's folder what the verbs that talk to it need; nothing where there is no API (empty `url`)."""
    if url:
        write_access(folder, url, token_path)
        say(f"admin API at {url}; `provisor status --run {folder}` talks to it")
