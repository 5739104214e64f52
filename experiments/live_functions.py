"""The functions of a run: made before they are called, deleted when it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from controller.catalog import Catalog
from controller.compile import Setting
from controller.errors import ClusterError

if TYPE_CHECKING:
    from serving.aws.function_targets import FunctionTargets
    from serving.aws.functions import Wanted
    from serving.aws.terms import AwsTerms
    from serving.bring_your_own import ModelSpec


@contextmanager
def made_functions(
    terms: AwsTerms, run: str, catalog: Catalog, specs: Mapping[str, ModelSpec], say: Callable[[str], None]
) -> Iterator[list[Wanted]]:
    """Makes a function for each variant and memory that a serverless pool of a catalog offers; deletes them after.

    Args:
        terms: Of the account.
        run: Word that marks what is the run's.
        catalog: Whose serverless pools they are.
        specs: Model of each variant.
        say: Prints a line of progress.

    Raises:
        ClusterError: Lambda refuses, does not answer, or keeps a function.
        ConfigError: The catalog has no serverless pool, or a model cannot be packed.
    """
    from serving.aws.clients import aws_client
    from serving.aws.faults import AwsError
    from serving.aws.function_package import package
    from serving.aws.functions import Functions, wanted_functions

    wanted = wanted_functions(run, catalog)
    packages = {name: package(specs[name]) for name in sorted({one.variant for one in wanted})}
    functions = Functions(aws_client("lambda", terms), run, terms)
    say(f"making {len(wanted)} functions: {', '.join(one.name for one in wanted)}")
    try:
        try:
            functions.ensure(wanted, packages)
        except AwsError as error:
            raise ClusterError(f"Lambda: expected functions that are made, got {error}") from error
        yield wanted
    finally:
        try:
            gone = functions.forget()
        except AwsError as error:
            later = f"`provisor cloud down --run {run}`"
            raise ClusterError(f"Lambda: expected functions that are deleted, got {error}; {later} does it") from error
        say(f"deleted {len(gone)} functions")


@contextmanager
def functions_of(
    terms: AwsTerms | None,
    run: str,
    setting: Setting,
    specs: Mapping[str, ModelSpec],
    say: Callable[[str], None],
) -> Iterator[FunctionTargets | None]:
    """What a live run's router calls, while it lasts; None where its serverless pools are emulated.

    Args:
        terms: Of the account; None: nothing is made.
        run: Identity of the run.
        setting: Compiled scenario.
        specs: Model of each variant.
        say: Prints a line of progress.

    Raises:
        ClusterError, ConfigError: As `made_functions`.
    """
    if terms is None:
        yield None
        return
    from serving.aws.function_targets import FunctionTargets

    pools, variants = setting.pool_names, setting.variant_names
    with made_functions(terms, run, setting.scenario.load_catalog(), specs, say) as wanted:
        names = {variants.index(one.variant) * len(pools) + pools.index(one.pool): one.name for one in wanted}
        yield FunctionTargets(terms, names)
