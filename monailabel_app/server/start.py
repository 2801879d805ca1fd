"""MONAI Label's command line with a temporary folder of its own, for ``python -m monailabel_app.server.start``."""

from __future__ import annotations

import signal
import sys
from types import FrameType

from monailabel.main import Main

from bundle.errors import explain_errors
from monailabel_app.server.temporary import own_temporary_folder


def main() -> None:
    """Become the server; a setting that cannot be used ends it with one sentence."""
    explain_errors()
    # uvicorn stops in peace and then raises the signal again, which would end the process before it has cleaned up.
    signal.signal(signal.SIGTERM, _leave)
    with own_temporary_folder():
        Main().run()


def _leave(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
