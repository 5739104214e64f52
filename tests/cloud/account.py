"""What the stand-in's account holds from the start, as terms of a run."""

import itertools
from functools import cache

from experiments.cloud import lifecycle
from experiments.cloud.lifecycle import KINDS, POOLS
from serving.aws.machines import Machines
from serving.aws.terms import Purchase

_COUNT = itertools.count()


def terms_of(aws):
    return _terms_at(aws.plain_url)


@cache
def _terms_at(url):
    return lifecycle.terms_of(url).model_copy(update={"tags": {"team": "serving"}})


def buys_of(terms, order=KINDS):
    return {name: Purchase(pool=name, is_spot=name == "spot", image_id=terms.image_id, order=order) for name in POOLS}


def machines_of(aws, order=KINDS, run=None, **more):
    terms = terms_of(aws)
    return Machines(aws.client("ec2"), run or aws.run, terms, buys_of(terms, order), **more)


def kind_of(aws, choice):
    """A choice as the behaviour counts its capacity."""
    return choice.instance_type, terms_of(aws).subnets[choice.zone]


class Account:
    """The stand-in, emptied, and a run that no other test has used: what is terminated is listed for ever."""

    def __init__(self, running):
        running.empty()
        self.run = f"run-{next(_COUNT)}"
        self.url, self.plain_url, self.behaviour = running.url, running.plain_url, running.behaviour
        self.client, self.there = running.client, running.there
