"""Start the server: ``monai-sam serve STUDIES [--port 8000] [--conf NAME VALUE]``.

With ``--dialect nninteractive`` (or ``slicer``, ``itksnap``) it is the one that nnInteractive's clients find, which
bring their images themselves (docs/nninteractive.md).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

from bundle.errors import explain_errors
from monailabel_app.datastore.address import is_dicomweb
from monailabel_app.foreground import check_port, run_in_foreground
from monailabel_app.nninteractive.command import PORTS, serving_command
from monailabel_app.server.access import TOKENS, TOKENS_FILE
from monailabel_app.server.audit_log import AUDIT_LOG
from monailabel_app.server.launch import APP, server_command, server_environment
from monailabel_app.server.logs import LOG_FORMAT
from monailabel_app.server.reach import BEHIND_PROXY, HOST, HOSTS, check_reach, is_loopback

HELP = """\
monai-sam listens on {url} ({reach}; stop it with Ctrl+C). Open it in a browser to see what it offers.

3D Slicer   install the extension MONAILabel, open the module of that name, type
                {url}
            as server and press the button beside it. Load a volume, or take the next sample.
            SmartEdit: choose sam_2d (slice that is shown) or sam_3d (volume), choose or add a segment, then place
            foreground points, background points or a ROI, and press Update.
OHIF        {ohif}
"""
OHIF_READY = """open {url}/ohif/ in a browser, open a study with MONAI Label, connect to
                {url}/
            then Point Prompts: choose sam_2d or sam_3d and an organ, click into the picture, run."""
DIALECTS = {
    "nninteractive": "napari, MITK and 3D Slicer's nnInteractive plug-in from 1.0 on: type {url} as server",
    "slicer": "3D Slicer's nnInteractive plug-in before 1.0: type {url}/u/YOUR-NAME as server",
    "itksnap": "ITK-SNAP: Tools, Deep Learning Segmentation, add the server {url}",
}
OHIF_MISSING = "needs a DICOMweb address instead of a folder: make serve STUDIES=http://127.0.0.1:8042/dicom-web"


def main() -> None:
    """Check the arguments, print what to type where, and become the server."""
    explain_errors()
    args = parse_arguments()
    choose(args, os.environ)
    environment = server_environment()
    check_reach(args.host, has_tls=bool(args.tls_certificate and args.tls_key), environment=environment)
    if args.dialect != "monailabel":
        serve_dialect(args, environment)
    if args.studies is None:
        sys.exit("say which images: a folder, or the address of a DICOMweb server")
    is_address = is_dicomweb(args.studies)
    if not is_address and not Path(args.studies).is_dir():
        sys.exit(f"there is no folder {args.studies}; give a folder of images or the address of a DICOMweb server")
    studies = args.studies if is_address else str(Path(args.studies).resolve())
    tls = (args.tls_certificate, args.tls_key) if args.tls_certificate and args.tls_key else None
    url = f"{'https' if tls else 'http'}://{args.host}:{args.port or 8000}"
    ohif = (OHIF_READY if is_address else OHIF_MISSING).format(url=url)
    reach = "this machine only" if is_loopback(args.host) else "for all who have a token"
    check_port(args.host, args.port or 8000)
    banner = HELP.format(url=url, ohif=ohif, reach=reach)
    command = server_command(studies, port=args.port or 8000, conf=dict(args.conf), host=args.host, tls=tls)
    # MONAI Label reads a file .env of the folder it starts in, and takes it for its own.
    address = (args.host, args.port or 8000)
    sys.exit(run_in_foreground(command, environment, folder=APP, address=address, banner=banner))


def serve_dialect(args: argparse.Namespace, environment: MutableMapping[str, str]) -> None:
    """Become the server of nnInteractive's clients."""
    if args.studies is not None:
        print(f"clients of the dialect {args.dialect} bring their images; {args.studies} is not read", file=sys.stderr)
    port = args.port or PORTS[args.dialect]
    tls = (args.tls_certificate, args.tls_key) if args.tls_certificate and args.tls_key else None
    url = f"{'https' if tls else 'http'}://{args.host}:{port}"
    check_port(args.host, port)
    banner = f"monai-sam listens on {url} (stop it with Ctrl+C).\n\n{DIALECTS[args.dialect].format(url=url)}"
    command = serving_command(args.dialect, port=port, conf=dict(args.conf), host=args.host, tls=tls)
    sys.exit(run_in_foreground(command, environment, folder=APP, address=(args.host, port), banner=banner))


def choose(args: argparse.Namespace, environment: MutableMapping[str, str]) -> None:
    """Set the server's variables that the command line has options for; files get their full path."""
    given = {
        TOKENS_FILE: args.tokens and str(Path(args.tokens).resolve()),
        AUDIT_LOG: args.audit_log and str(Path(args.audit_log).resolve()),
        HOSTS: args.names,
        LOG_FORMAT: args.log_format,
        BEHIND_PROXY: "true" if args.behind_proxy else None,
    }
    environment.update({name: value for name, value in given.items() if value})


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="?", help="folder of images, or address of a DICOMweb server")
    parser.add_argument("--port", type=int, help="8000; of nnInteractive's dialects 1527, of ITK-SNAP's 8911")
    dialects = ("monailabel", *DIALECTS)
    parser.add_argument("--dialect", choices=dialects, default=dialects[0], help="whose clients are served")
    parser.add_argument(
        "--conf",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help='family, checkpoint, device, labels ("liver,lesion")',
    )
    reach = parser.add_argument_group("for others than this machine (docs/deploy.md)")
    reach.add_argument("--host", default=HOST, help=f"address to listen on ({HOST}); others ask for --tokens and TLS")
    reach.add_argument("--tokens", metavar="FILE", help=f"accounts, a line of name, role and token each (or {TOKENS})")
    reach.add_argument("--tls-certificate", metavar="FILE", help="certificate in PEM")
    reach.add_argument("--tls-key", metavar="FILE", help="its key in PEM")
    reach.add_argument("--behind-proxy", action="store_true", help="a proxy in front speaks TLS")
    reach.add_argument("--names", help="names that clients call the server by, with commas between them")
    reach.add_argument("--log-format", choices=("text", "json"), help="one line of text, or a JSON object each")
    reach.add_argument("--audit-log", metavar="FILE", help="who did what when, without patients' data")
    return parser.parse_args()


if __name__ == "__main__":
    main()
