"""The command line `monai-sam` and its sub-commands, each imported when it is asked for."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

import click

from bundle import __version__
from bundle.errors import explain_errors

GROUP = "monai_sam.commands"
"""Entry points of other packages that add a command, such as the app's `serve`."""

_OWN = ("segment", "evaluate", "train", "prepare", "download", "export", "families")


class Commands(click.Group):
    """Commands of this package by module, and of others by entry point."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Names in the order in which a user meets them."""
        return ["segment", *sorted(_others()), *_OWN[1:]]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """The command of a name; None where there is none.

        Raises:
            click.ClickException: its package is not complete.
        """
        if name in _OWN:
            return getattr(import_module(f"bundle.commands.{name}"), name)
        if (point := _others().get(name)) is None:
            return None
        try:
            return point.load()
        except ImportError as error:
            raise click.ClickException(f"{name} cannot be loaded: {error}") from error


def _others() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
def cli() -> None:
    """Segment Anything for medical images: prompts in, label maps out.

    For research only. It is no medical device, and its masks are proposals that someone has to look at.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; what a user can mend ends it with one sentence.

    Args:
        arguments: by default what was typed.
    """
    explain_errors()
    speak_plainly()
    try:
        cli(None if arguments is None else list(arguments), standalone_mode=False, prog_name="monai-sam")
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort as error:
        raise KeyboardInterrupt from error


class _Below(logging.Filter):
    """Lets pass what is less than a warning."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno < logging.WARNING


def speak_plainly() -> None:
    """Show our own log as sentences, and of other libraries only what ends a run."""
    said = logging.StreamHandler(sys.stdout)
    said.addFilter(_Below())
    said.setFormatter(logging.Formatter("%(message)s"))
    warned = logging.StreamHandler(sys.stderr)
    warned.setLevel(logging.WARNING)
    warned.setFormatter(logging.Formatter("warning: %(message)s"))
    for name in ("bundle", "monailabel_app"):
        log = logging.getLogger(name)
        log.handlers, log.propagate = [said, warned], False
        log.setLevel(logging.INFO)
    logging.getLogger("bundle.data").setLevel(logging.WARNING)
    logging.getLogger().setLevel(logging.ERROR)
    # ignite logs every error that it passes on, which our own sentence then repeats.
    logging.getLogger("ignite").setLevel(logging.CRITICAL)


if __name__ == "__main__":
    main()
