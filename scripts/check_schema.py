"""Ask the server everything that its schema allows, and more: ``python scripts/check_schema.py [--examples 50]``

Starts a server on a generated CT and lets Schemathesis (https://schemathesis.io) make requests from ``/openapi.json``,
right ones and wrong ones. Each reply must be what ``scripts/schema_checks.py`` says: no 5xx but 503 with Retry-After,
502, 504 and 507, and a sentence for each refusal. A connection that breaks is a failure as well.

Schemathesis stays in an environment of its own, since its requirements are not the server's:

    python -m venv schema-env && schema-env/bin/pip install schemathesis==4.32.5
    python scripts/check_schema.py --schemathesis schema-env/bin/schemathesis
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bundle.data.synthetic.phantom import make_phantom
from bundle.data.volume import write_volume
from monailabel_app.server.launch import running_server

_HOOKS = Path(__file__).with_name("schema_checks.py")


def main() -> int:
    """Run the server and Schemathesis; the exit status is that of Schemathesis."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schemathesis", default=shutil.which("schemathesis"), help="the program, by default on PATH")
    parser.add_argument("--examples", type=int, default=50, help="requests of each route")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, default=Path("schema.log"), help="findings; the log lies beside")
    args = parser.parse_args()
    if not args.schemathesis:
        parser.error("Schemathesis is not on PATH; see --help for how to install it")
    program = str(Path(args.schemathesis).absolute())  # it runs in the temporary folder, where it keeps notes
    with tempfile.TemporaryDirectory(prefix="monai-sam-schema-") as folder:
        studies = Path(folder, "studies")
        image, _, _ = make_phantom(shape=(48, 40, 12), spacing=(8.0, 8.0, 15.0), seed=1)
        write_volume(image, studies / "ct.nii.gz")
        settings = {"MONAI_LABEL_SESSION_PATH": str(Path(folder, "sessions"))}
        log = args.output.with_suffix(".server.log")
        with running_server(
            studies, log=log, conf={"learn_while_annotating": "off"}, settings=settings, timeout=600
        ) as url:
            command = [program, "run", f"{url}/openapi.json", "--checks", "answers_in_a_sentence"]
            command += ["--max-examples", str(args.examples), "--seed", str(args.seed), "--phases", "examples,fuzzing"]
            command += ["--request-timeout", "120", "--continue-on-failure", "--no-color"]
            environment = {**os.environ, "SCHEMATHESIS_HOOKS": str(_HOOKS.resolve())}
            with args.output.open("w", encoding="utf-8") as output:
                status = subprocess.run(command, env=environment, cwd=folder, stdout=output, stderr=output).returncode
    sys.stdout.write(args.output.read_text(encoding="utf-8")[-4000:])
    return status


if __name__ == "__main__":
    sys.exit(main())
