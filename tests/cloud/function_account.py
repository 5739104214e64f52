"""A stand-in of Lambda, emptied, and terms to make functions there."""

import itertools
import platform

from experiments.cloud.function_service import Limits
from serving import zoo
from serving.aws.function_package import package
from serving.aws.functions import Functions, Wanted, function_name
from serving.aws.terms import AwsTerms, FunctionTerms
from serving.bring_your_own import ModelSpec

_COUNT = itertools.count()
ROLE = "arn:aws:iam::123456789012:role/provisor-function"


def function_terms(url, **more):
    """Terms whose endpoint is a stand-in."""
    own = {
        "role_arn": ROLE,
        "runtime": f"python{platform.python_version_tuple()[0]}.{platform.python_version_tuple()[1]}",
    }
    return AwsTerms(
        region="us-east-1",
        endpoint_url=url,
        image_id="ami-1",
        subnets={"us-east-1a": "subnet-1"},
        security_groups=("sg-1",),
        join_address="10.0.0.1:6379",
        tags={"team": "serving"},
        functions=FunctionTerms(**{**own, **more}),
    )


class FunctionAccount:
    """The stand-in without functions, and a run that no other test has used."""

    def __init__(self, running):
        self.service, self.client, self.url = running.service, running.client, running.url
        for name in self.service.names():
            self.service.delete(name)
        self.service.limits = Limits()
        self.service.invocations.clear()
        self.service.refused.clear()
        self.run = f"run{next(_COUNT)}"
        self.terms = function_terms(self.url)
        self.calls = []

    def functions(self, **more):
        return Functions(self.client(), self.run, self.terms, tell=lambda *call: self.calls.append(call), **more)

    def wanted(self, variant="digits-small", memory_mb=512):
        return Wanted(function_name(self.run, variant, memory_mb), variant, "lambda", memory_mb)

    def digits(self, variant="digits-small"):
        """A function of the digits ladder that exists; returns what was wanted."""
        spec = ModelSpec(variant, zoo_weights=zoo.load_or_train([variant])[variant].weights)
        one = self.wanted(variant)
        self.functions().ensure([one], {variant: package(spec)})
        return one

    def of(self, reference, memory_mb=256):
        """A function of a model of the user's that exists."""
        one = self.wanted("own", memory_mb)
        self.functions().ensure([one], {"own": package(ModelSpec("own", reference=reference))})
        return one
