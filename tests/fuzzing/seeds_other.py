"""Small right checkpoints, requests and JSON files."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path

from fuzzing.case import Case

_ROOT = Path(__file__).resolve().parents[2]


def _one(name: str, content: bytes, seed: str) -> Case:
    return Case({name: content}, name, (seed,))


def _weights() -> dict:
    import torch

    return {
        "image_encoder.a.weight": torch.arange(6.0).reshape(2, 3),
        "mask_decoder.b.bias": torch.ones(2, dtype=torch.half),
    }


def checkpoint_zip() -> list[Case]:
    """torch.save of bare weights, of MedSAM's and of micro-sam's wrapping, with an optimiser's state."""
    import torch

    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([parameter])
    parameter.sum().backward()
    optimizer.step()
    contents = {
        "bare": _weights(),
        "wrapped": {"model": _weights(), "optimizer": optimizer.state_dict(), "epoch": 3},
        "optimiser object": {"model": _weights(), "optimizer": optimizer},
        "micro-sam": {
            "model_state": _weights(),
            "decoder_state": {"module.encoder.x": torch.ones(1), "base.w": torch.ones(2)},
        },
        "run state": {"objects": {"average": {**_weights(), "n_averaged": torch.tensor(4)}}},
    }
    cases = []
    for name, content in contents.items():
        buffer = io.BytesIO()
        torch.save(content, buffer)
        cases.append(_one("a.pth", buffer.getvalue(), name))
    return cases


def checkpoint_legacy() -> list[Case]:
    """torch.save before the zip format, and plain pickles."""
    import torch

    buffer = io.BytesIO()
    torch.save({"model": _weights()}, buffer, _use_new_zipfile_serialization=False)
    plain = [
        _one("a.pth", pickle.dumps({"model": {"a": [1, 2.5]}}, protocol), f"protocol {protocol}")
        for protocol in (0, 2, 4)
    ]
    return [_one("a.pth", buffer.getvalue(), "legacy"), *plain]


def safetensors() -> list[Case]:
    """With and without our metadata."""
    from safetensors.torch import save

    metadata = {"monai_sam": json.dumps({"family": "default", "contract": {"size": 256}, "labels": {"liver": 1}})}
    return [
        _one("a.safetensors", save(_weights()), "bare"),
        _one("a.safetensors", save(_weights(), metadata=metadata), "metadata"),
    ]


PROMPT_KEYS = ("objects", "name", "label", "box", "points", "point_labels", "scribbles", "lasso", "mask", "x")


def prompts() -> list[Case]:
    """A prompts file with boxes and points."""
    content = {
        "objects": [
            {"name": "liver", "label": 1, "box": [[0, 0, 0], [3, 2, 1]], "points": [[1, 1, 0]], "point_labels": [1]},
            {"points": [[2, 2, 1], [0, 0, 0]], "point_labels": [1, 0]},
        ]
    }
    return [_one("prompts.json", json.dumps(content).encode(), "prompts")]


REQUEST_KEYS = (
    *(
        "foreground",
        "background",
        "points",
        "point_labels",
        "roi",
        "plane",
        "slice",
        "label",
        "client_id",
        "reset_state",
        "liver",
    ),
    *("result_extension", "result_dtype", "result_compress", "scribbles", "lasso", "box", "image", "model", "x"),
)


def requests() -> list[Case]:
    """What Slicer, OHIF, MITK, CVAT and deepedit's clients send."""
    contents = {
        "slicer": {
            "foreground": [[1, 1, 1]],
            "background": [[0, 0, 1]],
            "label": "liver",
            "slice": 1,
            "client_id": "a",
        },
        "roi": {"roi": [0, 3, 0, 2, 0, 1], "slice": 30, "foreground": [], "reset_state": True, "client_id": "a"},
        "plane": {"foreground": [[1, 2]], "roi": [0, 0, 3, 1], "plane": "coronal", "slice": 1, "limits": [0, 2]},
        "ohif": {"points": [[1, 1, 0], [2, 2, 0]], "point_labels": [1, 0], "result_extension": ".nrrd"},
        "cvat": {"foreground": [[1, 2]], "roi": [0, 0, 3, 2], "result_dtype": "uint8"},
        "deepedit": {"liver": [[1, 1, 1]], "spleen": [[2, 2, 1]], "background": [], "result_compress": False},
    }
    return [_one("request.json", json.dumps(content).encode(), name) for name, content in contents.items()]


def packed_arrays() -> list[Case]:
    """Arrays as nnInteractive's clients pack them: an image, a mask, doubles, one voxel."""
    import numpy as np

    from monailabel_app.nninteractive.packed_arrays import pack_array

    image = np.arange(24, dtype=np.int16).reshape(1, 2, 3, 4)
    arrays = {"image": image, "mask": image[0] > 5, "doubles": image[0] / 7, "voxel": np.ones((1, 1, 1), np.uint8)}
    return [_one("array.nnia", pack_array(array), name) for name, array in arrays.items()]


def sent_npy() -> list[Case]:
    """Images and masks as SlicerNNInteractive sends them."""
    import gzip

    import numpy as np

    def saved(array: np.ndarray) -> bytes:
        stream = io.BytesIO()
        np.save(stream, array)
        return stream.getvalue()

    image = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    mask = gzip.compress(saved((image > 5).astype(np.uint8)), mtime=0)
    fortran = saved(np.asfortranarray(image))
    return [_one("a.npy", saved(image), "image"), _one("a.npy.gz", mask, "mask"), _one("a.npy", fortran, "fortran")]


FAMILY_KEYS = (
    "name",
    "title",
    "network_def",
    "_target_",
    "contract",
    "checkpoint",
    "prompts",
    "trainable",
    "start",
    "variants",
)


def families() -> list[Case]:
    """Every family file of the repository."""
    paths = sorted((_ROOT / "configs" / "families").glob("*.json"))
    return [_one("family.json", path.read_bytes(), path.stem) for path in paths]


NAME_KEYS = ("liver", "spleen", "", "a b")


def label_names() -> list[Case]:
    """Names of labels."""
    return [_one("names.json", json.dumps({"liver": 1, "spleen": 2}).encode(), "names")]


DATALIST_KEYS = ("training", "validation", "test", "labels", "image", "label", "patient", "labelled", "channel_names")


def datalists() -> list[Case]:
    """A data list of the Decathlon beside the files that it names."""
    from fuzzing.seeds import nii

    image, label = nii()[0].files["a.nii"], nii()[2].files["a.nii"]
    content = {
        "labels": {"0": "background", "1": "liver", "2": "spleen"},
        "training": [{"image": "./i.nii", "label": "./l.nii"}, {"image": "i.nii", "label": "l.nii", "patient": "p"}],
        "validation": [{"image": "i.nii", "label": "l.nii", "labelled": [1]}],
        "test": ["i.nii"],
    }
    return [Case({"dataset.json": json.dumps(content).encode(), "i.nii": image, "l.nii": label}, "", ("data list",))]
