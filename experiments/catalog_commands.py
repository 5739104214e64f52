"""The verbs of a catalog."""

from __future__ import annotations

from pathlib import Path

import click

from controller.errors import EXIT_DONE


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def catalog() -> None:
    """Keep a catalog's figures up to date."""


@catalog.command()
@click.argument("name", metavar="CATALOG")
@click.option("--region", default="us-east-1", show_default=True, help="Pools at this site are refreshed.")
@click.option("--architecture", type=click.Choice(["x86_64", "arm64"]), default="x86_64", help="Of functions.")
@click.option("--endpoint-url", metavar="URL", help="Of a stand-in of AWS.")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FILE.yaml", help="The new catalog.")
@click.option("--force", is_flag=True, help="Replace --out where it exists.")
def refresh(name: str, region: str, architecture: str, endpoint_url: str | None, out: Path, force: bool) -> int:
    """Write a catalog with AWS's prices and machine shapes of today, each with its source and date.

    CATALOG is a name or a path. What AWS does not answer, or when there is no network, stays as it was, and is said
    with its age.

    \b
    Example:
      provisor catalog refresh default --region us-east-1 --out today.yaml
    """
    from datetime import UTC, datetime

    from controller.catalog import load_catalog
    from experiments.calibrated import require_new, write_whole
    from experiments.catalog_refresh import age_days, refreshed, refreshed_yaml
    from serving.aws.clients import client_of
    from serving.aws.price_list import HOME_REGION, PriceList

    require_new(out, "--out", force)
    before, today = load_catalog(name), datetime.now(UTC).date()
    prices = PriceList(
        client_of("pricing", HOME_REGION, endpoint_url),
        client_of("ec2", region, endpoint_url),
        region,
        today.isoformat(),
    )
    document, rows = refreshed(before, prices, region, architecture)
    for row in rows:
        where = f"{row.pool:<20} {row.field:<34}"
        if not row.is_kept:
            change = "as before" if row.after == row.before else f"was {row.before:g}"
            click.echo(f"{where} {row.after:<12g} {change}")
            continue
        age = age_days(row.source, today)
        old = "of unknown age" if age is None else f"{age} days old"
        click.echo(f"{where} {row.after:<12g} kept, {old}: {row.trouble}")
    write_whole(out, refreshed_yaml(document, before, region, today.isoformat()))
    kept = sum(row.is_kept for row in rows)
    if not rows:
        click.echo(f"no pool of catalog '{before.name}' is at {region}")
    click.echo(f"wrote {out}: {len(rows) - kept} figures of today, {kept} kept")
    return EXIT_DONE
