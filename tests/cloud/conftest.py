"""One stand-in of AWS for all tests here, emptied before each."""

import pytest

from experiments.cloud.aws_stand_in import stand_in
from experiments.cloud.lambda_stand_in import lambda_stand_in
from tests.cloud.account import Account
from tests.cloud.function_account import FunctionAccount


@pytest.fixture(scope="session")
def running():
    with stand_in() as found:
        yield found


@pytest.fixture
def aws(running):
    return Account(running)


@pytest.fixture(scope="session")
def running_functions():
    with lambda_stand_in() as found:
        yield found


@pytest.fixture
def account(running_functions):
    return FunctionAccount(running_functions)
