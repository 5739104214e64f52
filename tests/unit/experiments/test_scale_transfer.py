"""Scale transfer: tables by hand, and one small run."""

import pytest

from experiments.scale_transfer import ScaleRow, run_job, scale_jobs, scale_lines, shipped, show_lines, write_scales


def row(policy, trace, scale, cost_usd, **changes):
    fields = {"day": 4, "requests": 2_000_000, "most_missed": 0.005, "accuracy_gap": 0.0, "rule_share": 0.0}
    return ScaleRow(policy, "suite-cpu", trace, scale=scale, cost_usd=cost_usd, **{**fields, **changes})


ROWS = [
    row("rule", "twitter", 0.3, 10.0),
    row("learned", "twitter", 0.3, 9.0, most_missed=0.02),
    row("rule", "worldcup", 0.3, 20.0),
    row("learned", "worldcup", 0.3, 22.0, rule_share=0.04),
    row("rule", "twitter", 1.0, 30.0),
    row("learned", "twitter", 1.0, 30.0),
]


def test_each_policy_is_set_against_the_first_at_the_same_rate():
    lines = {(line.policy, line.scale): line for line in scale_lines(ROWS)}
    assert len(lines) == 4
    small = lines["learned", 0.3]
    assert small.over_first == pytest.approx((-0.1 + 0.1) / 2)
    assert (small.worst_trace, small.worst_over_first) == ("worldcup", pytest.approx(0.1))
    assert small.usd_per_million == pytest.approx((4.5 + 11.0) / 2)
    assert (small.most_missed, small.rule_share) == (0.02, 0.04)
    assert lines["rule", 0.3].over_first == lines["learned", 1.0].over_first == 0.0


def test_table_and_file_hold_every_line(tmp_path, capsys):
    lines = scale_lines(ROWS)
    show_lines(lines)
    shown = capsys.readouterr().out
    assert shown.count("0.3x") == 2
    assert "+10.00 % (worldcup)" in shown
    assert write_scales(ROWS, lines, tmp_path / "new").read_text().count("usd_per_million") == 4


def test_policies_that_are_not_there_have_no_jobs():
    jobs = scale_jobs([("a", lambda _: "mpc"), ("b", lambda _: None)], ["demo"], ["generated-burst"], (0.3, 1.0))
    assert [(job.policy, job.scale) for job in jobs] == [("a", 0.3), ("a", 1.0)]
    assert [label for label, _ in shipped()] == ["tuned mpc", "learned", "generalist"]


@pytest.mark.slow
def test_day_at_a_third_of_the_rate_has_a_third_of_the_requests():
    jobs = scale_jobs([("mpc", lambda _: "mpc")], ["demo"], ["generated-burst"], (0.3, 1.0))
    small, whole = (run_job(job) for job in jobs)
    assert small.requests == pytest.approx(0.3 * whole.requests, rel=0.02)
    assert 0 < small.cost_usd < whole.cost_usd
    assert small.rule_share == 0.0
