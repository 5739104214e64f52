"""The schemes experiment from measurement to files: what the command runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from experiments.checks import show_checks, write_checks
from experiments.schemes.measurement import Extent, measure_schemes, write_tables
from experiments.schemes.page import write_page
from experiments.schemes.verdict import checks_of, findings_of


def run_schemes(directory: Path, say: Callable[[str], None], extent: Extent | None = None) -> tuple[bool, bool]:
    """Measures, writes tables, plots and page, and prints values beside bars and findings.

    Args:
        directory: Folder of results, made where it is missing.
        say: Prints one line of progress.
        extent: How much is simulated; None: all.

    Returns:
        Whether every value holds, and whether the measurement was interrupted.

    Raises:
        UsageError: `$PROVISOR_DATA` is not set.
        ConfigError: A source is missing, or the folder cannot be written.
    """
    found = measure_schemes(say, extent)
    write_tables(found, directory)
    checks, findings = list(checks_of(found)), findings_of(found)
    write_checks(checks, directory / "checks.json")
    # matplotlib takes half a second, and an interrupted run should leave its tables first.
    from experiments.schemes.plots import draw

    page = write_page(found, checks, findings, draw(found, directory), directory / "report.html")
    holds = show_checks("resources, models and schemes", checks)
    for finding in findings:
        said = "reproduces" if finding.reproduces else "does not reproduce"
        click.echo(f"{finding.statement}: {said}. {finding.measured}. {finding.why}".rstrip())
    click.echo(f"written: {page}")
    return holds, found.is_partial
