"""Random faults of EC2 lead to no machine bought twice, none left over, and all that is wanted in the end."""

import pytest

from experiments.cloud.random_faults import run_sequence
from tests.cloud.account import KINDS, buys_of, kind_of, terms_of

SEQUENCES = 3


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEQUENCES))
def test_random_faults_lead_to_nothing_bought_twice_or_left(aws, seed):
    terms = terms_of(aws)
    verdict = run_sequence(aws, terms, buys_of(terms), [kind_of(aws, kind) for kind in KINDS], seed)
    assert verdict.is_right, verdict
