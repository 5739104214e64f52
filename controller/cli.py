"""The `provisor` command: a table of verbs, each imported when it is called, and what its failures look like.

To add a verb, write a click command whose help has an `Example:` and put one line into `VERBS`. A verb that fails
raises a `ProvisorError`, whose message is shown on one screen and whose `exit_code` is returned; it prints no traceback
itself. Only click is imported here, so that `provisor --help` answers at once.
"""

import importlib
import sys
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import click

from controller.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_WRONG_INPUT,
    ProvisorError,
    one_screen,
)

_DEBUG = "--debug"
_SCREEN_LINES = 22
_SHOWN_ERROR_CHARS = 600


class Verb(NamedTuple):
    """Where a verb's click command is, and its line in the list of verbs."""

    command: str
    """`"module:attribute"`, imported when the verb is called."""
    summary: str


VERBS: dict[str, Verb] = {
    "demo": Verb("experiments.learning_commands:demo", "Do the whole job on a generated trace, in minutes."),
    "evaluate": Verb("experiments.commands:evaluate", "Compare policies on days they never saw."),
    "benchmark": Verb(
        "experiments.benchmark_commands:benchmark", "Compare policies at equal attainment and accuracy: a leaderboard."
    ),
    "simulate": Verb("experiments.commands:simulate", "Run one policy in the simulated world, with a journal."),
    "replay": Verb("experiments.commands:replay", "Decide a journal again and report any difference."),
    "serve": Verb("experiments.serve_commands:serve", "Serve live on Ray, driven by a policy."),
    "status": Verb("serving.admin_commands:status", "Print what a running controller does."),
    "mode": Verb("serving.admin_commands:mode", "Print or change how far the policy is let."),
    "dial": Verb("serving.admin_commands:dial", "Print or turn what a running policy weighs."),
    "policy": Verb("serving.admin_commands:policy", "Show, push or roll back the policy of a running controller."),
    "cloud": Verb("experiments.cloud_commands:cloud", "Show what a run on AWS would buy, and give it back."),
    "catalog": Verb("experiments.catalog_commands:catalog", "Keep a catalog's prices and shapes up to date."),
    "init": Verb("experiments.init_commands:init", "Write first files for an application that runs already."),
    "why": Verb("experiments.explain_commands:why", "Say why a journalled plan came out as it did."),
    "what-if": Verb("experiments.explain_commands:what_if", "Run other policies on the traffic that a run captured."),
    "capture": Verb("experiments.explain_commands:capture", "Write a run's traffic as a trace, or to train on."),
    "profile": Verb("experiments.measure_commands:profile", "Measure a model of yours into a catalog entry."),
    "calibrate": Verb("experiments.measure_commands:calibrate", "Fit a catalog to what live runs measured."),
    "tiers": Verb("experiments.tiers_commands:tiers", "Let callers give up accuracy for time or cost, guaranteed."),
    "plan": Verb("experiments.placement_commands:plan", "Place workflows, or models and data versions, over sites."),
    "collage": Verb("experiments.collage_commands:collage", "Train networks that answer many requests in one pass."),
    "train": Verb("experiments.learning_commands:train", "Learn a policy and export it as one file."),
    "tune": Verb("experiments.tune_commands:tune", "Search the settings of a policy on whole days."),
    "experiment": Verb(
        "experiments.experiment_commands:experiment", "Measure what the project claims, beside its bars."
    ),
    "trace": Verb("traces.commands:trace", "Describe, generate and fetch request traces."),
    "env": Verb("envs.commands:env", "Describe the Gymnasium environments: ids, observation, action, reward."),
    "version": Verb("controller.cli:version", "Print the versions that can change a result."),
}


class VerbGroup(click.Group):
    """Group whose verbs are listed from a table and imported only when called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Verbs in the order of the table."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb's command, imported now.

        Raises:
            NoSuchCommand: No such verb; names the nearest.
        """
        if cmd_name not in VERBS:
            if ctx.resilient_parsing or cmd_name.startswith("-"):
                return None
            raise click.exceptions.NoSuchCommand(cmd_name, possibilities=VERBS, ctx=ctx)
        module_name, _, attribute = VERBS[cmd_name].command.partition(":")
        command: click.Command = getattr(importlib.import_module(module_name), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of verbs, from the table alone."""
        with formatter.section("Verbs"):
            formatter.write_dl([(name, verb.summary) for name, verb in VERBS.items()])


@click.group(
    cls=VerbGroup,
    subcommand_metavar="VERB [ARGS]...",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 a run or check failed, 2 wrong usage or input, 130 interrupted.",
)
@click.version_option(package_name="provisor", prog_name="provisor")
@click.option(
    _DEBUG, is_flag=True, expose_value=False, help="Show the traceback of a failure; may stand after any verb."
)
def provisor() -> None:
    """Rent capacity, pick model variants and split traffic for the least money that keeps every promise."""


@click.command()
def version() -> None:
    """Print the versions of Python, Provisor and the packages that can change a result.

    \b
    Example:
      provisor version
    """
    from controller.config import versions

    for name, number in versions().items():
        click.echo(f"{name} {number or 'not installed'}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit code.

    Args:
        arguments: Words after `provisor`; None takes them from the process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    own = words[: words.index("--")] if "--" in words else words
    is_debug = _DEBUG in own
    words = [word for word in own if word != _DEBUG] + words[len(own) :]
    try:
        result = provisor.main(args=words, prog_name="provisor", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return EXIT_WRONG_INPUT
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        if context is not None:
            click.echo(f"{context.get_usage()}\nTry '{context.command_path} --help'.", err=True)
        return _failed(error, error.format_message(), EXIT_WRONG_INPUT, is_debug)
    except (click.Abort, KeyboardInterrupt) as error:
        return _failed(error, "interrupted", EXIT_INTERRUPTED, is_debug)
    except ProvisorError as error:
        return _failed(error, str(error), error.exit_code, is_debug)
    except Exception as error:  # noqa: BLE001 - the last net: a traceback is shown only when it was asked for
        detail = textwrap.shorten(f"{type(error).__name__}: {error}", _SHOWN_ERROR_CHARS, placeholder=" ...")
        return _failed(error, f"unexpected {detail}\n(add {_DEBUG} for the traceback)", EXIT_FAILED, is_debug)
    return result if isinstance(result, int) else EXIT_DONE


def _failed(error: BaseException, message: str, exit_code: int, is_debug: bool) -> int:
    """Shows a failure on standard error and returns its exit code."""
    if is_debug:
        import traceback

        click.echo("".join(traceback.format_exception(error)), err=True)
    lines = [
        textwrap.shorten(line, _SHOWN_ERROR_CHARS, placeholder=" ...") if len(line) > _SHOWN_ERROR_CHARS else line
        for line in message.splitlines() or [type(error).__name__]
    ]
    click.secho(f"error: {one_screen(lines, limit=_SCREEN_LINES)}", fg="red", err=True)
    return exit_code
