"""Start the MONAI Label server with this app: ``monai-sam serve STUDIES [--port 8000] [--conf NAME VALUE]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bundle.errors import explain_errors
from monailabel_app.foreground import check_start, run_in_foreground
from monailabel_app.server.launch import APP, HOST, server_command, server_environment

HELP = """\
monai-sam listens on {url} (this machine only; stop it with Ctrl+C).

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
OHIF_MISSING = "needs a DICOMweb address instead of a folder: make serve STUDIES=http://127.0.0.1:8042/dicom-web"


def main() -> None:
    """Check the arguments, print what to type where, and become the server."""
    explain_errors()
    args = parse_arguments()
    environment = server_environment()
    is_dicomweb = args.studies.startswith(("http://", "https://"))
    if not is_dicomweb and not Path(args.studies).is_dir():
        sys.exit(f"there is no folder {args.studies}; give a folder of images or the address of a DICOMweb server")
    studies = args.studies if is_dicomweb else str(Path(args.studies).resolve())
    url = f"http://{HOST}:{args.port}"
    check_start(HOST, args.port, dict(args.conf))
    banner = HELP.format(url=url, ohif=(OHIF_READY if is_dicomweb else OHIF_MISSING).format(url=url))
    command = server_command(studies, port=args.port, conf=dict(args.conf))
    # MONAI Label reads a file .env of the folder it starts in, and takes it for its own.
    sys.exit(run_in_foreground(command, environment, folder=APP, address=(HOST, args.port), banner=banner))


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", help="folder of images, or address of a DICOMweb server")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument(
        "--conf",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help='family, checkpoint, device, labels ("liver,lesion")',
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
