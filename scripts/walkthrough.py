"""Walk from no label to a better network with the clients themselves, and leave the pictures of docs/walkthrough.md.

    MONAI_SAM_NAPARI=napari/bin/python python scripts/walkthrough.py --checkpoint version7.safetensors -o runs/walk

`orthanc`: an empty Orthanc gets studies over DICOMweb; OHIF shows and clicks, in a browser, with the mouse; 3D Slicer's
own client takes the next sample, saves labels, and trains on five. `folder`: the same client does so on a folder, with
one label; the host page shows what came of it, and napari draws a box on an image without a label, clicks wrongly, and
takes that back. The annotator of both is the known label. Images of other patients are segmented before and after.

Each way ends in a file of its name (orthanc.json, folder.json) and is not walked again while that is there. One whose
clients are not on this machine is left out, which is said.
"""

from __future__ import annotations

import bundle  # noqa: F401, chooses how threads wait, before PyTorch is loaded

# isort: split

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from dicomweb_client import DICOMwebClient

from bundle.errors import OptionError, explain_errors
from bundle.families.family import find_weights
from bundle.files import sha256_of, write_text
from bundle.layers import remember_settings
from bundle.root import BUNDLE_ROOT
from monailabel_app.demo.active_round import Annotator, Case, cases_of
from monailabel_app.server.launch import running_server

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))  # the rooms of the clients

import ohif_room
from napari_room import find_napari
from ohif_room import ohif
from pacs_room import orthanc
from walk_room import START_S, click, draw_in_napari, nninteractive, page_of, save_picture, store, uid_of

DATA = Path(os.environ.get("MONAI_SAM_DATA", BUNDLE_ROOT.parent / "shared" / "data")) / "ct-mr/msd-hippocampus-mr-3d"
STRATEGY = "foreground_random"
LABELS = {"orthanc": 5, "folder": 1}
IMAGES = {"orthanc": 6, "folder": 3}  # other patients on each way
HELD_OUT = 12  # patients that no server holds
STEPS = 4  # of each way, that are told
WINDOW = (1400, 900)  # pixels of the browser


def main(argv: Sequence[str] | None = None) -> int:
    """Walk every way that was not walked yet; 1 if one is left out."""
    options = arguments(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # not without ending what was started
    weights = sha256_of(find_weights(options.checkpoint or "default"))[:16]
    settings = {"data": options.data.name, "strategy": STRATEGY, "minutes": options.minutes, "weights": weights}
    remember_settings(options.output, settings)
    ohif_room.PATIENCE = START_S
    is_complete = True
    for name in options.ways:
        result = options.output / f"{name}.json"
        if result.is_file():
            continue
        try:
            with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=options.output) as work:
                walked = WAYS[name](options, Path(work))
        except pytest.skip.Exception as missing:
            print(f"{name}: left out, {missing}", flush=True)
            is_complete = False
            continue
        write_text(result, json.dumps({**settings, **walked}, indent=1) + "\n")
    return 0 if is_complete else 1


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of volumes with a datalist.json")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of results and pictures")
    parser.add_argument("--checkpoint", type=Path, help="what is served at first; by default the shipped weights")
    parser.add_argument("--minutes", type=float, default=2.0, help="of two cores, for each training")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="by default all")
    return parser.parse_args(argv)


def walk_from_orthanc(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Store studies, click in OHIF, label and train with Slicer's client, and click again with both networks."""
    cases = cases_of(options.data, "training", IMAGES["orthanc"])
    with orthanc(work / "orthanc") as pacs:
        empty = len(DICOMwebClient(pacs).search_for_studies())
        for case in cases:
            store(pacs, case, work / "dicom")
        say("orthanc", 1, f"{len(cases)} studies stored")
        with server(pacs, options, work, cases[0]) as url:
            with ohif(url, work / "browser", size=WINDOW) as viewer:
                viewer.show_studies(cases[-1].name)
                save_picture(picture(options, "studies"), viewer.screenshot(work / "studies.png"))
                shown = [click(viewer, cases[0], network=0)]
                save_picture(picture(options, "click"), viewer.screenshot(work / "click.png"))
            say("orthanc", 2, "clicked in OHIF")
            of_series = {uid_of(case, "series"): case for case in cases}
            known = {uid: replace(case, name=uid) for uid, case in of_series.items()}  # the server's id of an image
            played = play(Annotator(url, work / "client"), known, options, "orthanc")
            for one in played["rounds"]:
                one["image"] = of_series[one["image"]].name  # a patient says more than a UID
            say("orthanc", 3, "labelled and trained")
            left = unlabelled(cases, played)
            views = []
            with ohif(url, work / "browser", size=WINDOW) as viewer:
                for network in sorted({0, newest(url)}):  # one, where the gate refused
                    let_answer(url, network)
                    shown.append(click(viewer, left, network=network))
                    views.append(viewer.screenshot(work / f"view-{network}.png", "axial"))
            save_picture(picture(options, "networks"), *views)
            say("orthanc", 4, "clicked with both networks")
    return {**played, "studies_at_first": empty, "shown": shown}


def walk_from_folder(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Label and train with Slicer's client, look at the host page, and draw in napari with the new network."""
    find_napari()  # that it is missing shall not be found after the training
    cases = cases_of(options.data, "training", sum(IMAGES.values()))[IMAGES["orthanc"] :]
    (studies := work / "studies").mkdir()
    for case in cases:
        shutil.copyfile(case.image, studies / f"{case.name}{''.join(case.image.suffixes)}")
    say("folder", 1, f"{len(cases)} images copied")
    with server(studies, options, work, cases[0]) as url:
        played = play(Annotator(url, work / "client"), {case.name: case for case in cases}, options, "folder")
        say("folder", 2, "labelled and trained")
        version = newest(url)
        save_picture(picture(options, "page"), page_of(url, work))
        say("folder", 3, "host page seen")
    weights = next((work / "learning").rglob(f"{version:06d}.safetensors")) if version else options.checkpoint
    with nninteractive(weights, work, options.output / "napari.log") as url:
        shown = draw_in_napari(url, unlabelled(cases, played), version, work / "napari")
    save_picture(picture(options, "box"), work / "napari/window-1.png")
    save_picture(picture(options, "undo"), work / "napari/canvas-2.png", work / "napari/canvas-3.png")
    say("folder", 4, "drawn in napari")
    return {**played, "shown": shown}


@contextmanager
def server(studies: Path | str, options: argparse.Namespace, work: Path, case: Case) -> Iterator[str]:
    """The server of 3D Slicer and OHIF as `monai-sam serve STUDIES` starts it; its address."""
    conf = {"labels": ",".join(case.names), "learning": str(work / "learning"), "sessions": str(work / "sessions")}
    conf |= {"learn_while_annotating": "off"}  # it trains when the script asks for it, and once
    conf |= {"checkpoint": str(options.checkpoint.resolve())} if options.checkpoint else {}
    settings = {
        "TMPDIR": str(work),
        "MONAI_LABEL_DICOMWEB_CACHE_PATH": str(work / "dicomweb"),
        "MONAI_LABEL_DICOMWEB_SEARCH_FILTER": '{"Modality": "MR"}',  # CT by default
    }
    log = options.output / "server.log"
    with running_server(studies, log=log, conf=conf, settings=settings, timeout=START_S) as url:
        yield url


def play(annotator: Annotator, cases: Mapping[str, Case], options: argparse.Namespace, name: str) -> dict[str, Any]:
    """Label what the server hands out, and train once, after the last label."""
    return annotator.play(
        STRATEGY,
        cases,
        cases_of(options.data, "validation", HELD_OUT),
        rounds=LABELS[name],
        options={"minutes": options.minutes},
        train_after=[LABELS[name]],
    )


def unlabelled(cases: Sequence[Case], played: Mapping[str, Any]) -> Case:
    """An image that was not labelled on the way, so that it neither trained nor judged."""
    labelled = {one["image"] for one in played["rounds"]}
    return next(case for case in cases if case.name not in labelled)


def newest(url: str) -> int:
    """The newest network of a server; 0 is the one that it was started with."""
    return max(one["version"] for one in requests.get(f"{url}/train/versions", timeout=60).json())


def let_answer(url: str, network: int) -> None:
    """Let a network answer; all stay."""
    requests.put(f"{url}/train/versions/{network}", timeout=60).raise_for_status()


def say(name: str, step: int, what: str) -> None:
    """How far a way is walked."""
    print(f"{name} {step}/{STEPS}: {what}", flush=True)


def picture(options: argparse.Namespace, name: str) -> Path:
    """The file of a picture."""
    return options.output / f"walkthrough_{name}.png"


WAYS = {"orthanc": walk_from_orthanc, "folder": walk_from_folder}


if __name__ == "__main__":
    explain_errors()
    try:
        sys.exit(main())
    except OptionError as error:
        sys.exit(f"error: {error}")
