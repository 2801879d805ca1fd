"""The app's command for `monai-sam`, which finds it by an entry point: the bundle does not know the app."""

from __future__ import annotations

import sys

import click


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
    short_help="Run the MONAI Label server for 3D Slicer and OHIF.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def serve(arguments: tuple[str, ...]) -> None:
    """Run the MONAI Label server over a folder of images, or for a DICOMweb server.

    Its options are those of `monailabel_app.serve`.
    """
    try:
        from monailabel_app.serve import main
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"the server needs the extra packages of the app ({error.name} is missing): pip install 'monai-sam[app]'"
        ) from error
    sys.argv = ["monai-sam serve", *arguments]
    main()
