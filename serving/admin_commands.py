"""The verbs that talk to a running controller: status, mode, dial, policy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from controller.errors import EXIT_DONE, UsageError, mismatch

if TYPE_CHECKING:
    from serving.admin_access import AdminClient

CommandT = TypeVar("CommandT", bound=Callable[..., Any])


def _reaches_a_run(command: CommandT) -> CommandT:
    """Adds the options that say which run is meant."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON."),
        click.option("--token-file", metavar="FILE", help="Of the bearer token.  [default: as the run noted]"),
        click.option("--admin", metavar="URL", help="Of the admin API.  [default: as the run noted]"),
        click.option(
            "--run", "folder", default="runs/serve", show_default=True, metavar="DIR", help="Folder of the run."
        ),
    ):
        command = option(command)
    return command


@click.command()
@_reaches_a_run
def status(folder: str, admin: str | None, token_file: str | None, as_json: bool) -> int:
    """Print what a running controller does: mode, who drives, alarms, replicas, spend.

    \b
    Example:
      provisor status
      provisor status --admin http://127.0.0.1:8700 --token-file admin.token --json
    """
    answer = _client(folder, admin, token_file).get("/v1/status")
    _show(answer, as_json, _mode_lines(answer) + _status_lines(answer))
    return EXIT_DONE


@click.command()
@click.argument("mode", metavar="[MODE]", required=False)
@_reaches_a_run
def mode(mode: str | None, folder: str, admin: str | None, token_file: str | None, as_json: bool) -> int:
    """Print or change how far the policy is let: replay, shadow, canary or active.

    replay applies nothing; in shadow the named rule drives and the policy's decision is journalled beside; a canary is
    held within a band around the rule's plan. A change acts from the next tick on and ends a probation, unless an
    alarm is on.

    \b
    Example:
      provisor mode
      provisor mode canary
    """
    client = _client(folder, admin, token_file)
    answer = client.get("/v1/mode") if mode is None else client.send("PUT", "/v1/mode", {"mode": mode})
    _show(answer, as_json, _mode_lines(answer))
    return EXIT_DONE


@click.command()
@click.option("--attainment", type=float, metavar="A", help="Share of requests to answer in time.")
@click.option("--cost", type=float, metavar="W", help="Weight of money, against latency and accuracy.")
@click.option("--latency", type=float, metavar="W", help="Weight of answering soon.")
@click.option("--accuracy", type=float, metavar="W", help="Weight of answering well.")
@click.option("--neutral", is_flag=True, help="Back to what the policy was made for.")
@_reaches_a_run
def dial(
    attainment: float | None,
    cost: float | None,
    latency: float | None,
    accuracy: float | None,
    neutral: bool,
    folder: str,
    admin: str | None,
    token_file: str | None,
    as_json: bool,
) -> int:
    """Print or turn the preference dial of the policy that decides: no training, from the next tick on.

    Weights count against each other: twice the weight of latency is half that of cost. Floors of accuracy, budgets and
    other limits hold in any case. What is not named stays as it is.

    \b
    Example:
      provisor dial
      provisor dial --attainment 0.999 --cost 2
    """
    client = _client(folder, admin, token_file)
    named = {
        "target_attainment": attainment,
        "weight_cost": cost,
        "weight_latency": latency,
        "weight_accuracy": accuracy,
    }
    changed = {name: value for name, value in named.items() if value is not None}
    if neutral and changed:
        raise UsageError(mismatch("--neutral", "no other preference beside it", sorted(changed)))
    answer = client.get("/v1/preferences")
    if neutral or changed:
        answer = client.send("PUT", "/v1/preferences", {} if neutral else {**answer, **changed})
    lines = [f"{name}: {value}" for name, value in answer.items()] or ["neutral"]
    _show(answer, as_json, lines)
    return EXIT_DONE


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def policy() -> None:
    """Show, replace or roll back the policy of a running controller.

    \b
    Example:
      provisor policy push runs/train/policy.provisor
      provisor policy rollback
      provisor policy show
    """


@policy.command("push")
@click.argument("file", metavar="FILE")
@_reaches_a_run
def push(file: str, folder: str, admin: str | None, token_file: str | None, as_json: bool) -> int:
    """Put a policy file in charge; it is checked, compiled and tried first, and nothing changes if that fails.

    FILE is a `.provisor` file, or a `.yaml` file with the kind and settings of a rule.

    \b
    Example:
      provisor policy push runs/train/policy.provisor
    """
    from controller.trust.store import MOST_BYTES

    try:
        content = Path(file).read_bytes()
    except OSError as error:
        raise UsageError(f"{file}: expected a readable policy file, got: {error.strerror or error}") from error
    if len(content) > MOST_BYTES:
        raise UsageError(mismatch(file, f"at most {MOST_BYTES} bytes", len(content)))
    answer = _client(folder, admin, token_file).push(Path(file).name, content)
    _show(answer, as_json, _policy_lines(answer))
    return EXIT_DONE


@policy.command("rollback")
@_reaches_a_run
def rollback(folder: str, admin: str | None, token_file: str | None, as_json: bool) -> int:
    """Put the policy before the present one in charge again.

    \b
    Example:
      provisor policy rollback
    """
    answer = _client(folder, admin, token_file).send("POST", "/v1/policy/rollback", {})
    _show(answer, as_json, _policy_lines(answer))
    return EXIT_DONE


@policy.command("show")
@_reaches_a_run
def show(folder: str, admin: str | None, token_file: str | None, as_json: bool) -> int:
    """Print the policy in charge and those it can be rolled back to.

    \b
    Example:
      provisor policy show
    """
    answer = _client(folder, admin, token_file).get("/v1/policy")
    _show(answer, as_json, _policy_lines(answer))
    return EXIT_DONE


def _client(folder: str, admin: str | None, token_file: str | None) -> AdminClient:
    from serving.admin_access import find_client

    return find_client(Path(folder), admin, Path(token_file) if token_file else None)


def _show(answer: dict[str, Any], as_json: bool, lines: list[str]) -> None:
    click.echo(json.dumps(answer, indent=1) if as_json else "\n".join(lines))


def _mode_lines(answer: dict[str, Any]) -> list[str]:
    lines = [f"mode {answer['mode']}; the {answer['driver']} drives"]
    if not answer["is_trusted"]:
        lines.append(f"the policy is on probation: {answer['quiet_left_s']:.0f} s without an alarm to go")
    lines += [f"alarm {name}: {text}" for name, text in answer["alarms"].items()]
    if answer["policy_fault"]:
        lines.append(f"the policy failed and will be loaded anew: {answer['policy_fault']}")
    return lines


def _status_lines(answer: dict[str, Any]) -> list[str]:
    lines = [f"{answer['ticks']} ticks, {answer['rule_ticks']} of them on the rule"]
    if answer.get("loop_error"):
        lines.append(f"the loop stopped: {answer['loop_error']}")
    serving = answer.get("serving")
    if isinstance(serving, dict):
        lines.append("serving " + (", ".join(f"{name} {count}" for name, count in serving.items()) or "nothing"))
    spend = answer.get("day_spend_usd")
    if isinstance(spend, dict):
        lines.append(f"{sum(spend.values()):.4f} USD since the day began")
    demoted = answer.get("demoted_tiers")
    if isinstance(demoted, dict):
        lines += [f"tier of {name} demoted: {reason}" for name, reason in demoted.items()]
    return lines


def _policy_lines(answer: dict[str, Any]) -> list[str]:
    def line(entry: dict[str, Any]) -> str:
        digest = entry["sha256"]
        return f"{entry['name']}" + (f" (sha256 {digest[:12]})" if digest else "")

    return [f"in charge: {line(answer['current'])}", *(f"before it: {line(entry)}" for entry in answer["earlier"])]
