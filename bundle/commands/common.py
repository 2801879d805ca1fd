"""What several commands share: options, checks that need no model, and the run itself."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from bundle.errors import explain_errors
from bundle.layers import command_of, run_layers
from bundle.root import BUNDLE_ROOT

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

LAYOUTS = tuple(sorted(path.stem for path in (BUNDLE_ROOT / "configs" / "datasets").glob("*.json")))
RECIPES = tuple(sorted(path.stem for path in (BUNDLE_ROOT / "configs" / "recipes").glob("*.json")))
_NO_TUNINGS = ("finetune", "accepted")  # layers that lie under one, and over one
TUNINGS = tuple(
    path.stem for path in sorted((BUNDLE_ROOT / "configs" / "tuning").glob("*.json")) if path.stem not in _NO_TUNINGS
)


ENGINES = ("auto", "torch", "openvino")  # bundle.engines.choice's, which would import PyTorch


def model_options(command: Decorated) -> Decorated:
    """`--family`, `--checkpoint` and `--device`."""
    for option in (
        click.option("--device", help="Such as cuda:1 or cpu; by default a GPU where there is one."),
        click.option("--checkpoint", type=click.Path(exists=True, dir_okay=False), help="Weights of your own."),
        click.option("--family", default="default", show_default=True, callback=known_family, help="See `families`."),
    ):
        command = option(command)
    return command


def engine_option(default: str) -> Callable[[Decorated], Decorated]:
    """`--engine`."""
    return click.option(
        "--engine",
        type=click.Choice(ENGINES),
        default=default,
        show_default=True,
        help="What runs the network; auto is OpenVINO where it is installed and faster.",
    )


def set_option(command: Decorated) -> Decorated:
    """`--set NAME VALUE`, for whatever a config has beside the options of the command."""
    return click.option(
        "--set",
        "settings",
        nargs=2,
        multiple=True,
        metavar="NAME VALUE",
        callback=_read_settings,
        help="An option of the config, such as `--set epochs 2`; the value is JSON or a plain text.",
    )(command)


def known_family(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Refuse a family that there is no file for; the name of a variant is read later."""
    names = {path.stem for path in (BUNDLE_ROOT / "configs" / "families").glob("*.json")}
    if value.endswith(".json"):
        if not Path(value).is_file():
            raise click.BadParameter(f"there is no file {value}")
    elif value.partition("-")[0] not in names:
        raise click.BadParameter(f"no family {value!r}; known are {', '.join(sorted(names))}, or give a .json file")
    return value


def _read_settings(
    context: click.Context, parameter: click.Parameter, pairs: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    return {name.replace("::", "#"): _value(text) for name, text in pairs}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def output_folder(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Refuse a folder that cannot be one, before anything is loaded."""
    path = Path(value)
    for part in (path, *path.parents):
        if part.exists():
            if not part.is_dir():
                raise click.BadParameter(f"{part} is a file; choose a folder")
            break
    return value


def run(
    layers: Sequence[str], values: Mapping[str, Any], *, wiring: Mapping[str, str] | None = None, resume: str
) -> None:
    """Say which `monai.bundle run` this is, and run it here.

    Args:
        layers, values, wiring: as for `bundle.layers.run_layers`.
        resume: how to go on after Ctrl-C.
    """
    explain_errors(resume=resume)
    click.echo(f"The same with MONAI: {command_of(layers, {**values, **(wiring or {})})}")
    warnings.filterwarnings("ignore", module=r"(monai|ignite|torch|timm)\b")
    _quieten_monai()
    run_layers(layers, values, wiring=wiring)


def _quieten_monai() -> None:
    """MONAI's modules have a handler and a level each, set when they are imported."""
    import monai.bundle  # noqa: F401, seconds

    for name in logging.root.manager.loggerDict:
        if name.partition(".")[0] == "monai":
            logging.getLogger(name).setLevel(logging.ERROR)
