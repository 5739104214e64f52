"""Clients of AWS for a run."""

from __future__ import annotations

from typing import Any

import boto3
from botocore.config import Config

from serving.aws.terms import AwsTerms


def aws_client(service: str, terms: AwsTerms, *, read_timeout_s: float = 60.0, most: int = 4) -> Any:
    """A boto3 client that makes each call once: when to try again is decided by whoever calls.

    Args:
        service: Such as `ec2`.
        terms: Of the account; credentials come from boto3's own chain.
        read_timeout_s: Longest wait for an answer.
        most: Connections at a time.
    """
    url = terms.endpoint_url
    if service == "lambda" and terms.functions is not None:
        url = terms.functions.endpoint_url or url
    return client_of(service, terms.region, url, read_timeout_s=read_timeout_s, most=most)


def client_of(
    service: str, region: str, endpoint_url: str | None, *, read_timeout_s: float = 60.0, most: int = 4
) -> Any:
    """The same by region, for what concerns no run.

    Args:
        service: Such as `pricing`.
        region: Of the service.
        endpoint_url: Of a stand-in; None: AWS.
        read_timeout_s: Longest wait for an answer.
        most: Connections at a time.
    """
    config = Config(
        retries={"total_max_attempts": 1},
        connect_timeout=5,
        read_timeout=read_timeout_s,
        max_pool_connections=most,
    )
    return boto3.client(service, region_name=region, endpoint_url=endpoint_url, config=config)
