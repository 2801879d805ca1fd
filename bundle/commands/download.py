"""`monai-sam download`: fetch the published weights of model families."""

from __future__ import annotations

import click


@click.command()
@click.argument("families", nargs=-1, metavar="[FAMILY]...")
@click.option("--list", "only_list", is_flag=True, help="Print what can be fetched and what is already here.")
def download(families: tuple[str, ...], only_list: bool) -> None:
    """Fetch the published weights of FAMILY, checked by size and hash; without one, list them.

    They go where `MONAI_SAM_HOME` says, by default into the clone, or of an installed package into ~/.cache/monai-sam.
    """
    from bundle.families.download import fetch_weights
    from bundle.families.family import load_family

    if only_list or not families:
        _print_list()
        return
    for family in [load_family(name) for name in families]:
        click.echo(fetch_weights(family))


def _print_list() -> None:
    """One line per family with published weights; below it the hash, and where each thing was published."""
    from bundle.families.download import SOURCES, hash_status, published

    line = "{:12} {:>13}  {:17}  {:12}  {:7}  {}"
    click.echo(line.format("family", "size", "hash", "licence", "is here", "from"))
    for family in published():
        checkpoint = family.checkpoint
        size = f"{checkpoint['size'] / 1e6:.0f} MB" if checkpoint["size"] else "not published"
        here = "yes" if family.checkpoint_path.is_file() else "no"
        source = checkpoint["url"] or checkpoint.get("page") or checkpoint["file"]
        click.echo(line.format(family.name, size, hash_status(family), checkpoint["licence"], here, source))
        click.echo(f"    sha256   {checkpoint['sha256'] or 'not published'}")
        for thing in SOURCES:
            click.echo(f"    {thing:8} {checkpoint['sources'][thing]}")
