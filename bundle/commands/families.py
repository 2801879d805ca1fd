"""`monai-sam families`: what there is to choose from."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("families", nargs=-1, metavar="[FAMILY]...")
@click.option("--variants", is_flag=True, help="Count the variants of finetune-SAM, run nothing.")
@click.option("--image", type=click.Path(exists=True, path_type=Path), help="A volume; by default a CT or the phantom.")
@click.option("--label", type=click.Path(exists=True, path_type=Path), help="Its label map, the organ as value 1.")
def families(families: tuple[str, ...], variants: bool, image: Path | None, label: Path | None) -> None:
    """Print FAMILY, or all: size, cost, prompts, weights and licence, and run one box on one slice with each.

    Weights that are not on this machine are replaced by random ones, which shows that a family runs and how fast, not
    how well.
    """
    from bundle.commands.family_table import lines

    for line in lines(families, variants=variants, image=image, label=label):
        click.echo(line)
