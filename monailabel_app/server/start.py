"""MONAI Label's command line with a temporary folder of its own, for ``python -m monailabel_app.server.start``."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from uvicorn.config import HTTP_PROTOCOLS

from bundle.errors import OptionError, explain_errors
from bundle.families.family import find_weights, load_family
from monailabel_app.server.logs import write_log_config
from monailabel_app.server.reach import check_reach
from monailabel_app.server.temporary import own_temporary_folder


def main() -> None:
    """Become the server; a setting that cannot be used ends it with one sentence."""
    explain_errors()
    if "start_server" in sys.argv:
        check_weights(conf_of(sys.argv[1:]))
    from monailabel.main import Main  # all of MONAI, ten seconds

    # uvicorn stops in peace and then raises the signal again, which would end the process before it has cleaned up.
    signal.signal(signal.SIGTERM, _leave)
    HTTP_PROTOCOLS["auto"] = "monailabel_app.server.lingering:LingeringProtocol"  # MONAI Label calls uvicorn itself
    check_arguments(sys.argv[1:])
    logging.getLogger("monailabel.main").setLevel(logging.WARNING)  # a line for each of its twenty options
    with own_temporary_folder() as folder:
        if "--app" not in sys.argv:
            sys.argv += ["--app", str(make_app_folder(folder))]
        if "--log_config" not in sys.argv:  # MONAI Label's own writes into the folder of the program
            sys.argv += ["--log_config", str(write_log_config(folder))]
        Main().run()


def make_app_folder(folder: Path) -> Path:
    """Make what MONAI Label takes for the folder of the app: it makes folders in there, and ours may be read-only."""
    (folder / "app").mkdir()
    (folder / "app" / "main.py").write_text("from monailabel_app.main import MonaiSam\n", encoding="utf-8")
    return folder / "app"


def check_arguments(arguments: Sequence[str]) -> None:
    """Refuse a command line that would open the server to strangers.

    Raises:
        SettingsError: it would; see `check_reach`.
    """
    from monailabel.main import Main

    parsed = Main().args_parser().parse_args(arguments)
    if getattr(parsed, "action", "") == "start_server":
        check_reach(parsed.host, has_tls=bool(parsed.ssl_certfile and parsed.ssl_keyfile))


def conf_of(arguments: Sequence[str]) -> dict[str, str]:
    """The options of the app in a command line of MONAI Label, whose own parser costs the import of MONAI."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-c", "--conf", nargs=2, action="append", default=[])
    return dict(parser.parse_known_args(arguments)[0].conf)


def check_weights(conf: Mapping[str, str]) -> None:
    """Refuse a family or weights that are not there; MONAI Label would bury the sentence under its own traceback.

    Args:
        conf: options of the app.

    Raises:
        OptionError: no such checkpoint.
        FamilyError: no such family, or its weights are not on this machine.
    """
    family = load_family(conf.get("family", "default"))
    checkpoint = Path(conf["checkpoint"]) if "checkpoint" in conf else None
    if checkpoint is None:
        find_weights(family)
    elif not checkpoint.is_file():
        raise OptionError(f"there is no checkpoint {checkpoint}")


def _leave(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
