"""One stand-in of AWS for all tests here, emptied before each."""

import pytest

from experiments.cloud.aws_stand_in import stand_in
from tests.cloud.account import Account


@pytest.fixture(scope="session")
def running():
    with stand_in() as found:
        yield found


@pytest.fixture
def aws(running):
    return Account(running)
