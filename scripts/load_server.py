"""How long a click waits on a busy server: ``python scripts/load_server.py [--seconds 60] [--clients 8]``.

One run, one server on a generated CT in two copies: the median click alone, the median click while clients click on
both images, and a click on one image while many requests through the volume of the other are sent and left. What
counts is the ratio, since the machine's other work slows all of them.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import requests

from bundle.data.synthetic.phantom import make_phantom
from bundle.data.volume import write_volume
from monailabel_app.server.launch import running_server

_SHAPE = (128, 112, 48)
_SPACING = (3.0, 3.0, 4.0)  # mm


def click(url: str, image: str, model: str, params: dict) -> float:
    """Seconds of a click that is answered; a refusal by a full queue counts as none and is sent again."""
    while True:
        begin = time.perf_counter()
        files = {"params": (None, json.dumps(params))}
        reply = requests.post(f"{url}/infer/{model}?image={image}&output=json", files=files, timeout=600)
        if reply.status_code != 503:
            reply.raise_for_status()
            return time.perf_counter() - begin
        time.sleep(0.2)


def abandon(url: str, image: str, params: dict) -> None:
    """Send a request through the volume and leave before its answer."""
    body = f'--x\r\nContent-Disposition: form-data; name="params"\r\n\r\n{json.dumps(params)}\r\n--x--\r\n'
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    connection.request("POST", f"/infer/sam_3d?image={image}", body=body.encode(), headers=headers)
    time.sleep(0.05)
    connection.close()


def number(url: str, name: str) -> float:
    """One of the server's numbers."""
    lines = requests.get(f"{url}/metrics", timeout=60).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def main() -> None:
    """Start the server, load it, and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--abandoned", type=int, default=45)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="monai-sam-load-") as folder:
        studies = Path(folder, "studies")
        image, truth, labels = make_phantom(shape=_SHAPE, spacing=_SPACING, seed=1)
        for name in ("a", "b"):
            write_volume(image, studies / f"{name}.nii.gz")
        inside = np.argwhere(truth.array == labels["liver"]).tolist()
        settings = {"MONAI_LABEL_SESSION_PATH": str(Path(folder, "sessions"))}
        with running_server(studies, log=Path(folder, "log"), settings=settings, timeout=600) as url:
            report = measure(url, inside, args)
    sys.stdout.write(json.dumps(report, indent=2) + "\n")


def measure(url: str, inside: list[list[int]], args: argparse.Namespace) -> dict[str, float]:
    """Load a server; ``inside`` are voxels of an object, each click has its own."""

    def at(place: int, client: str) -> dict:
        return {"foreground": [inside[place * 7919 % len(inside)]], "client_id": client, "reset_state": True}

    alone = [click(url, "b", "sam_2d", at(n, "alone")) for n in range(11)]
    one_pass = statistics.median(alone[1:])  # the first reads the image
    click(url, "a", "sam_2d", at(0, "alone"))
    end, taken, lock = time.monotonic() + args.seconds, [], threading.Lock()

    def work(client: int) -> None:
        place = client
        while time.monotonic() < end:
            seconds = click(url, "ab"[client % 2], "sam_2d", at(place, f"client {client}"))
            with lock:
                taken.append(seconds)
            place += args.clients

    threads = [threading.Thread(target=work, args=(client,)) for client in range(args.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    leaving = [threading.Thread(target=abandon, args=(url, "a", at(n, f"leaver {n}"))) for n in range(args.abandoned)]
    for thread in leaving:
        thread.start()
    during = [click(url, "b", "sam_2d", at(100 + n, "waits")) for n in range(5)]
    for thread in leaving:
        thread.join()
    return {
        "click_alone_s": round(one_pass, 3),
        "clicks": len(taken),
        "clients": args.clients,
        "click_p50_s": round(statistics.median(taken), 3) if taken else 0.0,
        "click_max_s": round(max(taken, default=0.0), 3),
        "abandoned": args.abandoned,
        "click_while_abandoned_max_s": round(max(during), 3),
        "in_clicks_alone": round(max(during) / one_pass, 2),
        "still_waiting": number(url, "monai_sam_queue_length"),
        "left": number(url, 'monai_sam_requests_total{method="POST",route="/infer/{model}",status="499"}'),
    }


if __name__ == "__main__":
    main()
