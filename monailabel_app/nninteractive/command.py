"""The command line of the dialects' server, for those who start it; it costs no import of the model."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from monailabel_app.server.launch import full_path
from monailabel_app.server.reach import HOST

PORTS = {"nninteractive": 1527, "slicer": 1527, "itksnap": 8911}


def serving_command(
    dialect: str,
    *,
    port: int,
    conf: Mapping[str, str] | None = None,
    host: str = HOST,
    tls: tuple[str, str] | None = None,
) -> list[str]:
    """The command line of a server; ``tls`` are the files of a certificate and its key."""
    command = [sys.executable, "-m", "monailabel_app.nninteractive.serving", "--dialect", dialect]
    command += ["--host", host, "--port", str(port)]
    if tls is not None:
        certificate, key = (str(Path(file).resolve()) for file in tls)
        command += ["--tls-certificate", certificate, "--tls-key", key]
    for name, value in (conf or {}).items():
        command += ["--conf", name, full_path(name, value)]
    return command
