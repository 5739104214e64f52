"""The functions of one run on AWS Lambda: one for each variant and memory, made, kept up to date and deleted.

They are known by their names, which begin with the run's, and deleted only where they carry its tag too.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import WaiterError

from controller.catalog import Catalog, Market
from controller.errors import ClusterError, ConfigError, mismatch
from serving.aws.faults import AwsError, Fault, call
from serving.aws.function_package import HANDLER
from serving.aws.machines import POOL_TAG, RUN_TAG
from serving.aws.terms import AwsTerms, FunctionTerms

_EXISTS, _MISSING = "ResourceConflictException", "ResourceNotFoundException"
_LONGEST_NAME = 64
_READY_STEP_S, _READY_TIMEOUT_S = 1, 180


@dataclass(frozen=True)
class Wanted:
    """A function that shall exist."""

    name: str
    variant: str
    pool: str
    memory_mb: int


def function_name(run: str, variant: str, memory_mb: int) -> str:
    """Name of the function of a variant and memory; long ones are cut and told apart by a digest."""
    name = f"provisor-{run}-{variant}-{memory_mb}".replace(".", "_")
    if len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: _LONGEST_NAME - 9]}-{digest}"


def wanted_functions(run: str, catalog: Catalog) -> list[Wanted]:
    """A function for every variant that has a profile on a serverless pool.

    Raises:
        ConfigError: A pool's memory is none that a function can have, or no pool is serverless.
    """
    pools = {pool.name: pool for pool in catalog.pools if pool.market is Market.SERVERLESS}
    if not pools:
        raise ConfigError(mismatch("catalog.pools", "one that is serverless, for functions", sorted(pools)))
    found = []
    for profile in catalog.profiles:
        if profile.pool in pools:
            memory_mb = round(pools[profile.pool].memory_gb.value * 1024)
            if not 128 <= memory_mb <= 10240:
                raise ConfigError(mismatch(f"pools.{profile.pool}.memory_gb", "0.125 to 10, for a function", memory_mb))
            name = function_name(run, profile.variant, memory_mb)
            found.append(Wanted(name, profile.variant, profile.pool, memory_mb))
    return found


def runs_with_functions(client: Any) -> dict[str, int]:
    """Runs that have functions, by their tag, and how many.

    Args:
        client: Of Lambda.

    Raises:
        AwsError: No answer, or a refusal.
    """
    found: dict[str, int] = {}
    for one in _listed(client, "provisor-"):
        run = _tags(client, one["FunctionArn"]).get(RUN_TAG)
        if run is not None:
            found[run] = found.get(run, 0) + 1
    return found


class Functions:
    """The functions of one run.

    Args:
        client: Of Lambda, by boto3.
        run: Word that marks what is this run's.
        terms: Of the account; must have those of functions.
        is_dry: Calls that change something are told and not made.
        tell: Told of each call that changes something: its name and parameters.
    """

    def __init__(
        self,
        client: Any,
        run: str,
        terms: AwsTerms,
        *,
        is_dry: bool = False,
        tell: Callable[[str, Mapping[str, Any]], None] | None = None,
    ) -> None:
        self._client, self._run, self._terms = client, run, terms
        self._is_dry, self._tell = is_dry, tell

    def ensure(self, wanted: Sequence[Wanted], packages: Mapping[str, bytes]) -> None:
        """Makes sure that each function exists, as it is to be now, and takes calls.

        Args:
            wanted: Functions.
            packages: Zip by variant.

        Raises:
            AwsError: One could not be made.
            ClusterError: One does not become ready.
        """
        for one in wanted:
            self._ensure(one, packages[one.variant])
        if not self._is_dry:
            for one in wanted:
                self._wait(one.name)

    def all(self) -> list[str]:
        """Names of the run's functions, in order.

        Raises:
            AwsError: No answer, or a refusal.
        """
        listed = _listed(self._client, f"provisor-{self._run}-")
        return sorted(one["FunctionName"] for one in listed if self._is_ours(one["FunctionArn"]))

    def forget(self) -> list[str]:
        """Deletes the run's functions; returns their names.

        Raises:
            AwsError: One could not be deleted.
        """
        names = self.all()
        for name in names:
            try:
                self._change("delete_function", FunctionName=name)
            except AwsError as error:
                if error.code != _MISSING:
                    raise
        return names

    def _is_ours(self, arn: str) -> bool:
        return _tags(self._client, arn).get(RUN_TAG) == self._run

    def _ensure(self, one: Wanted, package: bytes) -> None:
        settings = self._settings(one)
        try:
            self._change(
                "create_function",
                FunctionName=one.name,
                PackageType="Zip",
                Code={"ZipFile": package},
                Architectures=[self._own.architecture],
                Tags={**self._terms.tags, RUN_TAG: self._run, POOL_TAG: one.pool},
                **settings,
            )
        except AwsError as error:
            if error.code != _EXISTS:
                raise
        else:
            return
        here = call(self._client, "get_function_configuration", FunctionName=one.name)
        if not self._is_ours(here["FunctionArn"]):
            raise AwsError(Fault.REFUSED, f"function {one.name} exists and is not tagged as this run's")
        told = {**here, "Layers": [layer["Arn"] for layer in here.get("Layers") or ()]}
        if any(told.get(key) != value for key, value in settings.items()):
            self._change("update_function_configuration", FunctionName=one.name, **settings)
            self._wait(one.name)
        if here["CodeSha256"] != base64.b64encode(hashlib.sha256(package).digest()).decode():
            self._change("update_function_code", FunctionName=one.name, ZipFile=package)

    @property
    def _own(self) -> FunctionTerms:
        assert self._terms.functions is not None
        return self._terms.functions

    def _settings(self, one: Wanted) -> dict[str, Any]:
        own = self._own
        return {
            "Runtime": own.runtime,
            "Role": own.role_arn,
            "Handler": HANDLER,
            "MemorySize": one.memory_mb,
            "Timeout": own.timeout_s,
            "Layers": list(own.layers),
        }

    def _wait(self, name: str) -> None:
        """Until the function takes calls with what it was last given."""
        attempts = {"Delay": _READY_STEP_S, "MaxAttempts": _READY_TIMEOUT_S // _READY_STEP_S}
        try:
            for state in ("function_active", "function_updated"):
                self._client.get_waiter(state).wait(FunctionName=name, WaiterConfig=attempts)
        except WaiterError as error:
            raise ClusterError(f"function {name}: expected one that takes calls, got: {error}") from error

    def _change(self, name: str, **parameters: Any) -> Any:
        if self._tell is not None:
            self._tell(name, parameters)
        return None if self._is_dry else call(self._client, name, **parameters)


def _listed(client: Any, prefix: str) -> Iterator[Mapping[str, Any]]:
    more: dict[str, Any] = {}
    while True:
        page = call(client, "list_functions", **more)
        yield from (one for one in page["Functions"] if one["FunctionName"].startswith(prefix))
        if not page.get("NextMarker"):
            return
        more = {"Marker": page["NextMarker"]}


def _tags(client: Any, arn: str) -> Mapping[str, str]:
    """Of a function; none where it was deleted meanwhile."""
    try:
        found: Mapping[str, str] = call(client, "list_tags", Resource=arn)["Tags"]
    except AwsError as error:
        if error.code == _MISSING:
            return {}
        raise
    return found
