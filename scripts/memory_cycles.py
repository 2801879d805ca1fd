"""Does the server give its memory back?  ``python scripts/memory_cycles.py [--cycles 200] [--leak] [--results FILE]``

One cycle is what a client does with an image of its own: upload it, click into it, end the session. The server runs in
this process, with the shipped model; after each cycle the resident memory is read, once what is free was given back to
the system. Flat is a growth below a tenth of one image for each cycle, over all cycles behind the first quarter, in
which the caches fill. ``--leak`` is the control: an app that never closes an image, which must not be called flat.

Linux only. The exit status is 1 where the memory grows. ``--results`` keeps both results in one JSON file, that of
docs/deploy.md.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

_SHAPE, _SPACING = (96, 84, 32), (4.0, 4.0, 6.0)  # 0.5 MB of int16
_FLAT = 0.1  # of an image, for each cycle


def resident() -> int:
    """Bytes of this process that lie in memory, without what is free."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def measure(cycle: Callable[[int], object], cycles: int) -> list[int]:
    """The resident memory after each cycle, in bytes."""
    found = []
    for number in tqdm(range(cycles), desc="cycles"):
        cycle(number)
        found.append(resident())
    return found


def growth(memory: Sequence[int]) -> float:
    """Bytes by which the memory grows in a cycle, behind the first quarter; no single cycle decides it (Theil-Sen)."""
    behind = memory[len(memory) // 4 :]
    half = len(behind) // 2
    return statistics.median((behind[n + half] - behind[n]) / half for n in range(len(behind) - half))


def main() -> int:
    """Measure, print, and say whether it is flat."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=200)
    parser.add_argument("--leak", action="store_true", help="the control: no image is ever closed")
    parser.add_argument("--results", type=Path, help="JSON file for the result, beside that of the other kind of run")
    args = parser.parse_args()
    if args.cycles < 8:
        parser.error("give at least 8 cycles")
    with tempfile.TemporaryDirectory(prefix="monai-sam-cycles-") as folder:
        cycle, image_bytes = server_cycle(Path(folder), leak=args.leak)
        memory = measure(cycle, args.cycles)
    grows = growth(memory)
    report = {
        "cycles": args.cycles,
        "control": args.leak,
        "image_mb": round(image_bytes / 1e6, 2),
        "baseline_mb": round(memory[len(memory) // 4] / 1e6, 1),
        "end_mb": round(memory[-1] / 1e6, 1),
        "growth_kb_per_cycle": round(grows / 1e3, 1),
        "is_flat": grows < _FLAT * image_bytes,
    }
    print(json.dumps(report, indent=2))
    if args.results is not None:
        known = json.loads(args.results.read_text(encoding="utf-8")) if args.results.exists() else {}
        known["control" if args.leak else "server"] = report
        args.results.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    return 0 if report["is_flat"] else 1


def server_cycle(folder: Path, *, leak: bool) -> tuple[Callable[[int], None], int]:
    """A server with the shipped model, and one cycle of a client of it; bytes of one image."""
    os.environ["MONAI_LABEL_SESSION_PATH"] = str(folder / "uploads")  # before MONAI Label reads its settings
    (folder / "studies").mkdir()
    os.environ["MONAI_LABEL_STUDIES"] = str(folder / "studies")
    os.environ["MONAI_LABEL_TASKS_BATCH_INFER"] = "false"

    from fastapi.testclient import TestClient
    from monailabel.config import settings
    from monailabel.interfaces.utils.app import apps

    from bundle.data.synthetic.phantom import make_phantom
    from bundle.data.volume import Volume, write_volume
    from monailabel_app.main import MonaiSam
    from monailabel_app.server.app import create_app

    app = MonaiSam("", str(folder / "studies"), {"sessions": str(folder / "sessions")})
    if leak:
        app._images._max_images = 10**9
    apps[f"{settings.MONAI_LABEL_APP_DIR}{settings.MONAI_LABEL_STUDIES}"] = app
    image, truth, labels = make_phantom(shape=_SHAPE, spacing=_SPACING, seed=1)
    inside = np.argwhere(truth.array == labels["liver"])
    client = TestClient(create_app(), base_url="http://127.0.0.1:8000", client=("127.0.0.1", 50000))

    def cycle(number: int) -> None:
        array = image.array.copy()
        array[0, 0, 0] = number  # another image each time, with a session of its own
        path = write_volume(Volume(array, image.affine, "CT"), folder / "ct.nii", compress=False)
        with path.open("rb") as file:
            session = client.put("/session/", files={"files": file}).raise_for_status().json()["session_id"]
        params = {"foreground": [inside[number * 7919 % len(inside)].tolist()]}
        files = {"params": (None, json.dumps(params))}
        client.post(f"/infer/sam_2d?session_id={session}", files=files).raise_for_status()
        client.delete(f"/session/{session}").raise_for_status()

    return cycle, image.array.nbytes


if __name__ == "__main__":
    sys.exit(main())
