"""One self-contained HTML page of the schemes experiment: checks, findings, plots and tables."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from experiments.checks import Check
from experiments.page import page, table
from experiments.page import write_page as write_text
from experiments.schemes.lambda_memory import SOURCE
from experiments.schemes.measurement import Measurement
from experiments.schemes.verdict import Finding

TITLE = "Resources, models and schemes"
_LEAD = (
    "What the paper that this project follows opens with (arXiv 2008.09491), measured request by request in the "
    "simulated world on the default catalog. The paper's statements are as remembered; no number of it is quoted."
)
_LAW = (
    "Law: u* = price / (3600 mu c). c is what the bill counts for a call: memory x warm duration rounded up to 1 ms, "
    "the fee per request, and cold starts at the share counted under another seed. Egress is the same on both sides "
    "and left out."
)
_MEMORY = (
    f"`measured`: {SOURCE}, warm runs at five sizes. `derived`: the default catalog's own derivation at the sizes that "
    "hold the model. Both at a constant rate with cold starts."
)
_CHOICE = (
    "Costs are of the fewest machines, or of calls, that answer 99 % in time. Naive in the iso-latency pool: always "
    "the most accurate model on its cheapest resource; in the iso-accuracy pool: always the option that is fastest "
    "when idle."
)
_SCHEMES = (
    "Half of the requests strict (2 s, ResNet-50), half relaxed (120 s, ResNet-101), 50 requests/s on the training "
    "days' mean, on-demand CPU machines and the Lambda of 2021 with cold starts; published settings; validation days "
    "under two seeds, the first half hour of each not counted. Needed machines: whole machines that each tick's "
    "arrivals keep busy."
)


def write_page(
    found: Measurement,
    checks: Sequence[Check],
    findings: Sequence[Finding],
    plots: Sequence[tuple[str, str]],
    path: Path,
) -> Path:
    """Writes the page.

    Args:
        found: What was measured.
        checks: Values beside bars.
        findings: Statements, reproduced or not.
        plots: Caption and SVG element of each.
        path: File to write.

    Raises:
        ConfigError: The file cannot be written.
    """
    body = [f"<h1>{TITLE}</h1>", f"<p>{_LEAD}</p>"]
    if found.is_partial:
        body.append('<p class="note">The measurement was interrupted; parts that were not finished are missing.</p>')
    body.append("<h2>Values beside their bars</h2>")
    lines = [[c.what, c.measured, c.bar, "holds" if c.holds else "FALLS SHORT"] for c in checks]
    body.append(table(["what", "measured", "bar", ""], lines))
    body.append("<h2>Findings of the paper</h2>")
    body += [_finding(one) for one in findings]
    body.append("<h2>Plots</h2>")
    body += [f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>" for caption, svg in plots]
    body.append("<h2>Tables</h2>")
    body += _tables(found)
    return write_text(page(TITLE, body, "experiment schemes"), path)


def _finding(one: Finding) -> str:
    said = "reproduces" if one.reproduces else "does not reproduce"
    why = f" {escape(one.why)}" if one.why else ""
    return f"<h3>{escape(one.statement)}: {said}</h3><p>{escape(one.measured)}.{why}</p>"


def _tables(found: Measurement) -> list[str]:
    return [
        "<h3>Break-even</h3>",
        f"<p>{_LAW}</p>",
        table(
            [
                "model / pool",
                "mu, 1/s",
                "warm call, $",
                "cold share %",
                "c, $",
                "u* warm %",
                "u* %",
                "crossing %",
                "off %",
            ],
            [
                [
                    f"{c.model} / {c.pool}",
                    f"{c.machine_rps:.3g}",
                    f"{c.warm_usd:.3g}",
                    f"{100 * c.cold_share:.3f}",
                    f"{c.invocation_usd:.3g}",
                    f"{100 * c.law_warm:.3f}",
                    f"{100 * c.law:.3f}",
                    _number(c.measured, 100, 3),
                    f"{100 * c.deviation:+.2f}",
                ]
                for c in found.crossings
            ],
        ),
        "<h3>Constant rates</h3>",
        table(
            ["model / pool", "requests/s", "machines", "machines $/h", "serverless $/h", "serverless in time %"],
            [
                [
                    f"{one.model} / {one.pool}",
                    f"{one.rate_rps:g}",
                    "-" if one.machines is None else str(one.machines),
                    _number(one.machine_usd_per_hour, 1, 3),
                    f"{one.serverless_usd_per_hour:.3f}",
                    f"{100 * one.serverless_attainment:.2f}",
                ]
                for one in found.levels
            ],
        ),
        "<h3>Memory</h3>",
        f"<p>{_MEMORY}</p>",
        table(
            ["model", "sweep", "MB", "$ per million", "mean latency s", "p99 s", "cold share %"],
            [
                [
                    point.model,
                    point.sweep,
                    str(point.memory_mb),
                    _number(point.usd_per_million, 1, 3),
                    _number(point.latency_s, 1, 4),
                    _number(point.p99_s, 1, 3),
                    _number(point.cold_share, 100, 3),
                ]
                for point in found.memory
            ],
        ),
        "<h3>Choice</h3>",
        f"<p>{_CHOICE}</p>",
        table(
            [
                "pool",
                "asked",
                "aware",
                "$ per million",
                "naive",
                "$ per million",
                "cheaper by %",
                "any that fits, mean $",
            ],
            [
                [
                    one.pool,
                    f"{100 * one.accuracy:g} %, {one.latency_s:g} s",
                    f"{one.aware.model} / {one.aware.pool}",
                    f"{one.aware.usd_per_million:.2f}",
                    f"{one.naive.model} / {one.naive.pool}",
                    f"{one.naive.usd_per_million:.2f}",
                    f"{100 * one.saving:.1f}",
                    f"{one.typical_usd:.2f}",
                ]
                for one in found.choices
            ],
        ),
        "<h3>Schemes</h3>",
        f"<p>{_SCHEMES}</p>",
        table(
            [
                "course / scheme",
                "violated %",
                "strict %",
                "relaxed %",
                "$/day",
                "machines $",
                "calls $",
                "rented / needed",
                "serverless %",
                "cold %",
                "refused",
            ],
            [
                [
                    f"{day.course} / {day.scheme}",
                    f"{100 * day.violations:.3f}",
                    f"{100 * day.strict_violations:.3f}",
                    f"{100 * day.relaxed_violations:.3f}",
                    f"{day.cost_usd_per_day:.2f}",
                    f"{day.machine_usd_per_day:.2f}",
                    f"{day.serverless_usd_per_day:.2f}",
                    f"{day.over_provisioning:.3f}",
                    f"{100 * day.serverless_share:.3f}",
                    f"{100 * day.cold_share:.2f}",
                    str(day.throttled),
                ]
                for day in found.days
            ],
        ),
    ]


def _number(value: float | None, factor: float, digits: int) -> str:
    return "-" if value is None else f"{factor * value:.{digits}f}"
