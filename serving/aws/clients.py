"""Clients of AWS for a run."""

from __future__ import annotations

from typing import Any

import boto3
from botocore.config import Config

from serving.aws.terms import AwsTerms


def aws_client(service: str, terms: AwsTerms) -> Any:
    """A boto3 client that makes each call once: when to try again is decided by whoever calls.

    Args:
        service: Such as `ec2`.
        terms: Of the account; credentials come from boto3's own chain.
    """
    config = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=60, max_pool_connections=4)
    return boto3.client(service, region_name=terms.region, endpoint_url=terms.endpoint_url, config=config)
