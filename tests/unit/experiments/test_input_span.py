"""The span of what a policy learned from, by hand."""

import json

import numpy as np

from experiments.input_span import InputSpan

FIRST = np.array([[[1.0, 5.0], [2.0, 4.0]], [[0.0, 4.5], [1.0, 4.0]]], np.float32)  # (ticks, envs, D)


def test_span_grows_with_what_is_seen():
    span = InputSpan.over(FIRST)
    assert (span.low.tolist(), span.high.tolist(), span.samples) == ([0.0, 4.0], [2.0, 5.0], 4)
    both = span.joined(InputSpan.over(np.array([[-1.0, 4.2]], np.float32)))
    assert (both.low.tolist(), both.high.tolist(), both.samples) == ([-1.0, 4.0], [2.0, 5.0], 5)


def test_range_and_plain_values_say_the_same():
    span = InputSpan.over(FIRST)
    assert (span.range.low, span.range.high, span.range.samples) == ((0.0, 4.0), (2.0, 5.0), 4)
    assert InputSpan.of(json.loads(json.dumps(span.plain()))).range == span.range
