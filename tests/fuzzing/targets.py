"""Every door with its seeds and its ways of damage."""

from __future__ import annotations

import importlib
import pickle
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from random import Random
from types import ModuleType

import numpy as np

import bundle.data.formats
from bundle.errors import MonaiSamError
from fuzzing import known, seeds, seeds_dicom, seeds_other
from fuzzing.batch import CPU_SECONDS, Batch
from fuzzing.case import Case
from fuzzing.mutate_binary import mutate_nifti, mutate_npy, mutate_safetensors
from fuzzing.mutate_bytes import mutate
from fuzzing.mutate_containers import inside_gzip, inside_zip, mutate_pickle
from fuzzing.mutate_dicom import mutate_dicom
from fuzzing.mutate_pictures import mutate_jpeg, mutate_png, mutate_tiff
from fuzzing.mutate_text import json_mutator, mutate_meta, mutate_nrrd
from fuzzing.watch import lacked_memory

Door = Callable[[str], object]
Mutator = Callable[[Random, bytes], bytes]
# What mutators raise where an earlier damage has left nothing that they understand.
_NOT_UNDERSTOOD = (ValueError, IndexError, KeyError, TypeError, RecursionError, OverflowError, pickle.PickleError)


@dataclass(frozen=True)
class Target:
    """A format and the door it enters by.

    Attributes:
        name: of the format.
        door: opens a path.
        right: makes the seeds, which the door opens.
        wrong: makes files after known faults.
        mutators: by the ending of a file's name, "" for all others.
        cpu_seconds: that one case may take.
    """

    name: str
    door: Door
    right: Callable[[], list[Case]]
    wrong: Callable[[], list[Case]] = list
    mutators: dict[str, Mutator] = field(default_factory=dict)
    cpu_seconds: float = CPU_SECONDS

    @cached_property
    def seeds(self) -> list[Case]:
        """Right files."""
        return self.right()

    @cached_property
    def starts(self) -> list[Case]:
        """The cases that a round begins with, unchanged."""
        return [*self.seeds, *self.wrong()]

    def batch(
        self, cases: Callable[[int], Case], numbers: Sequence[int], folder: Path, *, known: frozenset[str] = frozenset()
    ) -> Batch:
        """A child that runs cases of this format; the arguments are those of ``Batch``."""
        return Batch(cases, numbers, self.door, folder, known=known, warming=self.seeds, cpu_seconds=self.cpu_seconds)

    def case(self, number: int, *, seed: str, kept: tuple[Case, ...] = ()) -> Case:
        """The case of a number: the starts first, then mutations of starts and of ``kept``; the same at every call."""
        if number < len(self.starts):
            return self.starts[number]
        rng = Random(f"{self.name}/{seed}/{number}")
        case = rng.choice(kept) if kept and rng.random() < 0.3 else rng.choice(self.starts)
        for _ in range(rng.choice((1, 1, 1, 1, 2, 2, 3, 5))):
            case = self._mutated(rng, case)
        return case

    def mutator_of(self, name: str) -> Mutator:
        """How a file of this name is damaged."""
        special = (self.mutators[end] for end in self.mutators if end and name.endswith(end))
        return next(special, self.mutators.get("", mutate))

    def _mutated(self, rng: Random, case: Case) -> Case:
        names = sorted(case.files)
        if len(names) > 1 and rng.random() < 0.08:
            return _shuffled(rng, case, names)
        name = case.main if case.main and rng.random() < 0.8 else rng.choice(names)
        mutator = mutate if rng.random() < 0.1 else self.mutator_of(name)
        try:
            content = mutator(rng, case.files[name])
        except _NOT_UNDERSTOOD:
            mutator, content = mutate, mutate(rng, case.files[name])
        return case.with_file(name, content, f"{mutator.__name__} {name}")


def _shuffled(rng: Random, case: Case, names: list[str]) -> Case:
    """A file less, or the content of one under the name of another."""
    one, other = rng.sample(names, 2)
    if rng.random() < 0.3 and one != case.main:
        files = {name: content for name, content in case.files.items() if name != one}
        return Case(files, case.main, (*case.trail, f"without {one}"), case.folder)
    return case.with_file(one, case.files[other], f"{other} as {one}")


# ---- doors ----------------------------------------------------------------------------------------------------------


def open_volume(path: str) -> object:
    """Read as an image and as a label map; refused if neither can be had."""
    from bundle.data.volume import read_label, read_volume

    opened, errors = [], []
    for read in (read_label, read_volume):
        try:
            opened.append(read(path))
        except MonaiSamError as error:
            errors.append(error)
    if opened and not any(lacked_memory(error) for error in errors):
        return opened[0]
    raise errors[-1]


def open_weights(path: str) -> object:
    """Open a checkpoint, and ask which family it is of, as every user of an unknown file does."""
    from bundle.families.checkpoints import open_checkpoint

    checkpoint = open_checkpoint(path)
    for tensor in checkpoint.state_dict.values():
        tensor.shape  # noqa: B018 - a tensor that has none would fail later
    return checkpoint


def open_prompts(path: str) -> object:
    """Read a prompts file and check it against a volume, as every run does."""
    from bundle.prompts.prompts import read_prompts

    return [prompt.validated((4, 3, 2)) for prompt in read_prompts(path)]


def open_request(path: str) -> object:
    """Read the JSON of a request for 2D and 3D."""
    from bundle.data.volume import Volume
    from monailabel_app.wire.fields import ReplyFormat, read_axis
    from monailabel_app.wire.json_values import read_json
    from monailabel_app.wire.requests import read_request

    text = Path(path).read_bytes().decode("utf-8", "replace")
    params = read_json(text, "params")
    error: MonaiSamError | None = None
    image = Volume(np.zeros((4, 3, 2), np.uint8), seeds.AFFINE)
    about = {"shape": image.shape, "affine": image.affine, "names": ("liver", "spleen")}
    for ask in (
        lambda: ReplyFormat.of(params, Path("a.nii.gz")),
        lambda: read_request(params, axis=read_axis(params, image), dimension=3, **about),
        lambda: read_request(params, axis=read_axis(params, image), dimension=2, **about),
    ):
        try:
            ask()
        except MonaiSamError as refused:
            error = refused
    if error:
        raise error
    return params


def open_family(path: str) -> object:
    """Read a family file."""
    from bundle.families.family import load_family

    return load_family(path)


def open_names(path: str) -> object:
    """Read a file of label names."""
    from bundle.batch.cases import label_names

    return label_names(path, np.zeros((1, 1, 1), np.uint8))


def open_datalist(path: str) -> object:
    """Read a data list."""
    from bundle.data.datasets import read_layout

    return read_layout("msd", path)


def open_packed(path: str) -> object:
    """Unpack what nnInteractive's clients send. Bounded to 8 MB: a few bytes may rightly stand for many zeros."""
    from bundle.data.limits import Limits
    from monailabel_app.nninteractive.packed_arrays import unpack_array

    return unpack_array(Path(path).read_bytes(), limits=Limits(voxels=2**20, data_bytes=2**23))


def open_sent_npy(path: str) -> object:
    """Read an image of SlicerNNInteractive before 1.0, and its gzip."""
    from monailabel_app.nninteractive.plain_arrays import gunzip, read_npy

    data = Path(path).read_bytes()
    return read_npy(gunzip(data, 2**23) if data[:2] == b"\x1f\x8b" else data)


# ---- the table ------------------------------------------------------------------------------------------------------


def _zarr_json() -> Mutator:
    keys = (
        "shape",
        "data_type",
        "chunk_grid",
        "configuration",
        "chunk_shape",
        "codecs",
        "name",
        "fill_value",
        "attributes",
    )
    return json_mutator(
        (*keys, "spacing", "affine", "node_type", "zarr_format", "storage_transformers", "dimension_names")
    )


def _member_of_checkpoint(rng: Random, name: str, content: bytes) -> bytes:
    return mutate_pickle(rng, content) if name.endswith(".pkl") else mutate(rng, content)


def _member_of_npz(rng: Random, name: str, content: bytes) -> bytes:
    return mutate_npy(rng, content)


def _none() -> list[Case]:
    return []


def _table() -> dict[str, Target]:
    npz_names = ("imgs.npy", "gts.npy", "spacing.npy", "affine.npy", "imgs", "../x.npy", "/x.npy", "")
    pth_names = (
        "archive/data.pkl",
        "archive/data/0",
        "archive/data/1",
        "data.pkl",
        "archive/byteorder",
        "archive/version",
        "constants.pkl",
    )
    nrrd, meta, dicom = {"": mutate_nrrd}, {"": mutate_meta}, {"": mutate_dicom}
    rows: list[tuple[str, Door, Callable, Callable, dict[str, Mutator]]] = [
        ("nrrd", open_volume, seeds.nrrd, known.nrrd, nrrd),
        ("nhdr", open_volume, seeds.nhdr, known.nhdr, {".nhdr": mutate_nrrd, "": mutate, ".gz": inside_gzip(mutate)}),
        ("seg.nrrd", open_volume, seeds.seg_nrrd, known.seg_nrrd, nrrd),
        ("mha", open_volume, seeds.mha, known.mha, meta),
        ("mhd", open_volume, seeds.mhd, known.mhd, {".mhd": mutate_meta, "": mutate}),
        ("nii", open_volume, seeds.nii, known.nii, {"": mutate_nifti}),
        ("nii.gz", open_volume, seeds.nii_gz, known.nii_gz, {"": inside_gzip(mutate_nifti)}),
        ("npy", open_volume, seeds.npy, known.npy, {"": mutate_npy}),
        ("npz", open_volume, seeds.npz, known.npz, {"": inside_zip(_member_of_npz, npz_names)}),
        ("zarr", open_volume, seeds.zarr_group, known.zarr_group, {".json": _zarr_json(), "": mutate}),
        ("png", open_volume, seeds.png, known.png, {"": mutate_png}),
        ("jpg", open_volume, seeds.jpg, known.jpg, {"": mutate_jpeg}),
        ("tif", open_volume, seeds.tif, known.tif, {"": mutate_tiff}),
        ("dcm", open_volume, seeds_dicom.dcm, known.dcm, dicom),
        ("dcm-folder", open_volume, seeds_dicom.dcm_folder, known.dcm_folder, dicom),
        ("dcm-enhanced", open_volume, seeds_dicom.dcm_enhanced, _none, dicom),
        ("dcm-seg", open_volume, seeds_dicom.dcm_seg, _none, dicom),
        (
            "pth",
            open_weights,
            seeds_other.checkpoint_zip,
            known.checkpoints,
            {"": inside_zip(_member_of_checkpoint, pth_names)},
        ),
        ("pth-legacy", open_weights, seeds_other.checkpoint_legacy, known.checkpoints, {"": mutate_pickle}),
        ("safetensors", open_weights, seeds_other.safetensors, _none, {"": mutate_safetensors}),
        ("prompts", open_prompts, seeds_other.prompts, _none, {"": json_mutator(seeds_other.PROMPT_KEYS)}),
        ("request", open_request, seeds_other.requests, _none, {"": json_mutator(seeds_other.REQUEST_KEYS)}),
        ("packed", open_packed, seeds_other.packed_arrays, _none, {}),
        (
            "sent-npy",
            open_sent_npy,
            seeds_other.sent_npy,
            _none,
            {".gz": inside_gzip(mutate_npy), "": mutate_npy},
        ),
        ("family", open_family, seeds_other.families, _none, {"": json_mutator(seeds_other.FAMILY_KEYS)}),
        ("names", open_names, seeds_other.label_names, _none, {"": json_mutator(seeds_other.NAME_KEYS)}),
        (
            "datalist",
            open_datalist,
            seeds_other.datalists,
            _none,
            {".json": json_mutator(seeds_other.DATALIST_KEYS), "": mutate_nifti},
        ),
    ]
    return {name: Target(name, door, right, _with_noise(right, wrong), ways) for name, door, right, wrong, ways in rows}


def _with_noise(right: Callable[[], list[Case]], wrong: Callable[[], list[Case]]) -> Callable[[], list[Case]]:
    def cases() -> list[Case]:
        first = right()[0]
        name = first.main or sorted(first.files)[0]
        return [*wrong(), *known.noise(name, first.folder)] if first.main else wrong()

    return cases


TARGETS = _table()


def import_readers(names: list[str]) -> list[ModuleType]:
    """Import what the doors of these targets need, so that every fork has it."""
    formats = pkgutil.iter_modules(bundle.data.formats.__path__, "bundle.data.formats.")
    # What readers import only when they need it; numpy.testing (by scikit-image) even starts a program.
    modules = ["bundle.data.volume", "numpy.testing", "slicerio", *(module.name for module in formats)]
    doors = {TARGETS[name].door for name in names if name in TARGETS}
    if "zarr" in names:
        modules.append("zarr")
    if open_weights in doors:
        modules.append("bundle.families.checkpoints")
    if open_family in doors:
        modules += ["bundle.families.family", "bundle.families.builders"]
    if open_prompts in doors:
        modules.append("bundle.prompts.prompts")
    if open_names in doors:
        modules.append("bundle.batch.cases")
    if open_datalist in doors:
        modules.append("bundle.data.datasets")
    if open_packed in doors:
        modules.append("monailabel_app.nninteractive.packed_arrays")
    if open_sent_npy in doors:
        modules.append("monailabel_app.nninteractive.plain_arrays")
    if open_request in doors:
        modules.append("monailabel_app.wire.requests")
    return [importlib.import_module(module) for module in modules]
