"""Prompts of a slice in, masks of the slice out: the network behind its contract and its embedding store."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor

from bundle import __version__
from bundle.engines.cache import PreparedCache, network_identity
from bundle.engines.choice import computes_in_bfloat16, engine_identity, engine_name, on_engine
from bundle.engines.interruption import Interrupted, interruptible, watch
from bundle.errors import FamilyError
from bundle.networks.interface import Prepared, PromptableNetwork
from bundle.prompts.batch import batch_of
from bundle.prompts.slice_prompts import SliceInteraction, SliceMask, SlicePrompt
from bundle.prompts.translation import translated
from bundle.transforms.contract import Contract, Intensity
from bundle.transforms.frames import nearest_index
from bundle.transforms.placement import Placement

__all__ = ["SliceInteraction", "SliceMask", "SlicePredictor", "SlicePrompt", "SliceView"]


@dataclass(frozen=True, eq=False)
class SliceView:
    """A slice as a predictor needs it.

    Attributes:
        picture: (H, W) intensities, or (H, W, 3) colour.
        intensity: the contract's views of its volume.
        pixel_spacing: (dy, dx) in mm.
    """

    picture: np.ndarray
    intensity: Intensity
    pixel_spacing: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True, eq=False)
class _Seen:
    """What the network made of a slice, where the slice lies in its input, and what preparing it took."""

    prepared: Prepared
    placement: Placement
    computed: bool
    seconds: float


class SlicePredictor:
    """A network with its contract.

    Args:
        network: in eval mode.
        contract: of the network's family.
        store: where prepared images are kept, where the network says that it is worth it.
        device: where the network runs.
        engine: what runs it, see ``on_engine``.

    Raises:
        EngineError: the engine cannot.
        FamilyError: a network of volumes.
    """

    def __init__(
        self,
        network: PromptableNetwork,
        contract: Contract,
        *,
        store: PreparedCache,
        device: torch.device | str = "cpu",
        engine: str = "torch",
    ) -> None:
        if len(network.spec.input_shape) == 4:
            raise FamilyError(
                "a network of volumes answers no slices; open a family of slices, which asks it through the volume "
                "where its file names it as `volume`"
            )
        self.device = torch.device(device)
        network = network.to(self.device).eval()
        watch(network)
        self.contract, self.store, self.identity = contract, store, network_identity(network)
        self.network = on_engine(network, engine, device=self.device, identity=self.identity)
        # Of torch; OpenVINO chooses its own precision.
        self.bfloat16 = self.engine == "torch" and network.spec.bfloat16 and computes_in_bfloat16(self.device)
        if self.bfloat16:  # the order of axes in which convolutions in bfloat16 are fastest
            self.network.to(memory_format=torch.channels_last)

    @property
    def engine(self) -> str:
        """What runs the network: "torch" or "openvino"."""
        return engine_name(self.network)

    @property
    def computation(self) -> str:
        """What its answers depend on beside contract and prompts: weights, engine and precision."""
        return f"{self.identity} {engine_identity(self.network)}{', answers in bfloat16' if self.bfloat16 else ''}"

    def predict(self, view: SliceView, prompt: SlicePrompt) -> SliceMask:
        """What the network says to the prompts of one object on a slice, even where it overlooks one of them.

        ``SlicePrompt.honoured`` makes of it the answer in which each of them holds where it lies.

        The network answers as it was trained to (``PromptableSam.decode``): SAM an ambiguous prompt (one point) with
        three candidates, of which the one of highest predicted IoU is taken, and any other with its single mask. Kinds
        that it does not understand are translated. A family whose contract zooms looks at the window around the object.
        Points and scribbles alone do not say where that is: the first one finds the object on the whole slice and is
        asked again in the window around that answer, which the others then correct. What the first one finds is one
        connected piece. A mask of the object is its own answer.
        """
        height, width = view.picture.shape[:2]
        if (given := prompt.given(height, width)) is not None:
            return given
        asked = self._translated(prompt, height, width)
        if self.contract.zoom is None or asked.box is not None or asked.previous is not None or not asked.on_object:
            return self._predict_in(view, asked, asked.around())
        first = self._translated(prompt.first_on_object(), height, width)
        passes = [_pointed_at(self._predict_in(view, first, None), first)]
        for points in (first, asked) if len(asked.points) > len(first.points) else (first,):
            again = points.after(passes[-1] if passes[-1].mask.any() else None)
            answer = self._predict_in(view, again, again.around())
            passes.append(_pointed_at(answer, first) if points is first else answer)
        encoded = sum(answer.encoded for answer in passes)
        seconds = sum(answer.encode_seconds for answer in passes)
        return replace(passes[-1], encoded=encoded, encode_seconds=seconds)

    def prepare(self, view: SliceView, *, interrupted: Callable[[], bool] = lambda: False) -> int:
        """Prepare a whole slice, so that the first click on it finds it prepared.

        Args:
            view: the slice.
            interrupted: whether something else wants the device; asked while the encoder runs.

        Returns:
            Bytes that the store keeps of it; 0 where the network prepares nothing that is worth keeping.

        Raises:
            Interrupted: something else did; nothing is kept of the slice.
        """
        if not self.network.spec.keeps_prepared:
            return 0

        def leave() -> None:
            if interrupted():
                raise Interrupted

        with interruptible(leave):
            return self._prepare(view, None).prepared.nbytes

    def describe(self, view: SliceView) -> np.ndarray:
        """What a slice looks like to the network, to compare it with others: (C,) float32."""
        placement = self.contract.placement(*view.picture.shape[:2], view.pixel_spacing)
        image = self.contract.to_input(view.picture, view.intensity, placement)[None].to(self.device)
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            features = self.network.describe(image)
        return features[0].float().cpu().numpy()

    def _translated(self, prompt: SlicePrompt, height: int, width: int) -> SlicePrompt:
        spec = self.network.spec
        return translated(prompt, height, width, understood=spec.prompts, scribble_points=spec.scribble_points)

    def _predict_in(self, view: SliceView, prompt: SlicePrompt, around: np.ndarray | None) -> SliceMask:
        seen = self._prepare(view, around)
        size = self.network.spec.mask_size
        batch = batch_of([prompt], seen.placement, mask_size=size, device=self.device)
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            logits, iou = self.network.predict(seen.prepared.to(self.device), batch).best()
            mask = (seen.placement.logits_to_slice(logits.float())[0, 0] > 0).cpu().numpy()
        return SliceMask(
            mask,
            logits=logits[0, 0].float().cpu(),
            iou=float(iou),
            placement=seen.placement,
            encoded=int(seen.computed),
            encode_seconds=seen.seconds,
        )

    def _prepare(self, view: SliceView, around: np.ndarray | None) -> _Seen:
        """Prepare a slice, or the window around a box of it, or find what was made of it before."""
        started = time.perf_counter()
        placement = self.contract.placement(*view.picture.shape[:2], view.pixel_spacing, around=around)

        def prepare() -> Prepared:
            image = self.contract.to_input(view.picture, view.intensity, placement)
            with torch.inference_mode():
                return self.network.prepare(image[None].to(self.device)).map(Tensor.float).to("cpu")

        if not self.network.spec.keeps_prepared:
            return _Seen(prepare(), placement, computed=False, seconds=0.0)
        prepared, computed = self.store.get(self._key(view, placement), prepare)
        return _Seen(prepared, placement, computed, time.perf_counter() - started if computed else 0.0)

    def _key(self, view: SliceView, placement: Placement) -> str:
        model = f"{__version__} {self.identity} {engine_identity(self.network)} {self.contract}"
        digest = hashlib.sha256(f"{model} {view.intensity} {placement} {view.picture.dtype}".encode())
        digest.update(np.ascontiguousarray(view.picture))
        return digest.hexdigest()


def _pointed_at(answer: SliceMask, prompt: SlicePrompt) -> SliceMask:
    """The connected pieces of an answer that a prompt's points lie on; the whole answer where they lie beside it."""
    _, pieces = cv2.connectedComponents(answer.mask.astype(np.uint8), connectivity=8)
    height, width = answer.mask.shape
    columns, rows = np.clip(nearest_index(prompt.points, (width, height)), 0, (width - 1, height - 1)).T
    found = np.setdiff1d(pieces[rows, columns], [0])
    return replace(answer, mask=np.isin(pieces, found)) if len(found) else answer
