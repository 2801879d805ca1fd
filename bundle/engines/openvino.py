"""OpenVINO as the engine of a network: its encoder and decoder as compiled graphs, behind the network's own doors."""

from __future__ import annotations

import hashlib
import logging
import tempfile
import threading
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bundle import __version__
from bundle.engines.choice import computes_in_bfloat16
from bundle.engines.graph_files import GraphFiles, Parts
from bundle.engines.interruption import check_interruption, is_interruptible
from bundle.engines.openvino_package import openvino
from bundle.errors import EngineError
from bundle.families.export import EncoderGraph
from bundle.networks.interface import MaskPrediction, Prepared, PromptableNetwork
from bundle.prompts.batch import PromptBatch

logger = logging.getLogger(__name__)

_LARGEST_DEVIATION = 0.02  # of a converted graph from the network, relative to the norm of what it gives
_POLL_MS = 5  # between two looks whether a graph that runs is to be left
_LAYOUT = 1  # of what is in a file of a graph; another number makes all of them anew


class OpenVinoNetwork(PromptableNetwork):
    """A network whose heavy parts OpenVINO runs: ``prepare``, and ``predict_masks`` of its decoder.

    What lies between them, as the embedding of prompts, stays PyTorch's: it is a thousandth of the time and where
    networks differ. The first call for a network converts it, which takes as long as a few dozen images; the graphs are
    kept by what the network is (``GraphFiles``) and opened from there the next time. Each is compared with the network
    when it is made, in float32. On CPUs with instructions for bfloat16 the encoder computes in it, whose embedding
    stands that, and the decoder where the network says that its answers stay as good (``spec.bfloat16``).

    Args:
        network: in eval mode, on the CPU. Its weights must stay as they are.
        identity: of its weights, ``network_identity``.
        folder: of converted graphs, see ``GraphFiles``.

    Raises:
        EngineError: OpenVINO cannot run it, or gives something else than the network does.
    """

    engine = "openvino"

    def __init__(self, network: PromptableNetwork, *, identity: str, folder: str | Path | None = None) -> None:
        super().__init__()
        self.spec, self.network = network.spec, network
        has_bfloat16 = computes_in_bfloat16(torch.device("cpu"))
        bfloat16 = {"encoder": has_bfloat16, "decoder": has_bfloat16 and network.spec.bfloat16}
        self.precision = "bfloat16" if has_bfloat16 else "float32"  # of what ``prepare`` gives
        files, conversion = GraphFiles(folder), _Conversion(network)
        self._graphs: dict[str, _Graph] = {}
        try:
            for part in ("encoder", "decoder")[not network.spec.keeps_prepared :]:
                parts = files.get(_key(network, identity, part), getattr(conversion, part))
                self._graphs[part] = _Graph(parts, bfloat16=bfloat16[part])
        except EngineError:
            raise
        except Exception as error:  # whatever a converter or a compiler of another project ends with
            raise EngineError(f"OpenVINO cannot run this {type(network).__name__} ({error})") from error
        self.eval()

    @property
    def mask_decoder(self) -> nn.Module:
        """The network's own."""
        return self.network.mask_decoder

    def prepare(self, images: Tensor) -> Prepared:
        """As the network's; images go through the encoder one by one, which is as fast on a CPU."""
        if "encoder" not in self._graphs:
            return self.network.prepare(images)
        self.check_images(images)
        return Prepared.cat([Prepared(self._graphs["encoder"](images=image[None])) for image in images])

    def describe(self, images: Tensor) -> Tensor:
        """As the network's: of what the encoder gives, or as it does itself where it has no encoder to run."""
        return super().describe(images) if "encoder" in self._graphs else self.network.describe(images)

    def decoder_inputs(
        self, features: Mapping[str, Tensor], tokens: tuple[Tensor, Tensor] | None, masks: Tensor | None
    ) -> dict[str, Tensor]:
        """The network's own."""
        return self.network.decoder_inputs(features, tokens, masks)

    def predict_all(self, prepared: Prepared, prompts: PromptBatch, **_: Any) -> MaskPrediction:
        """As the network's, through the compiled decoder."""
        return super().predict_all(prepared, prompts, run=self._decode)

    def tunable(self, part: str) -> list[list[nn.Module]]:
        """The network's own."""
        return self.network.tunable(part)

    def _decode(self, decoder: nn.Module, **inputs: Tensor) -> tuple[Tensor, Tensor]:
        answer = self._graphs["decoder"](**inputs)
        return answer["logits"], answer["iou"]


class _Graph:
    """A compiled graph as a function of named tensors. Threads take turns: its buffers are there once."""

    def __init__(self, parts: Parts, *, bfloat16: bool) -> None:
        core = openvino.Core()
        weights = openvino.Tensor(np.frombuffer(parts["weights.bin"], np.uint8))
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        compiled = core.compile_model(core.read_model(parts["graph.xml"], weights), "CPU", settings)
        self._inputs, self._outputs = (
            [port.any_name for port in ports] for ports in (compiled.inputs, compiled.outputs)
        )
        self._request, self._lock = compiled.create_infer_request(), threading.Lock()

    def __call__(self, **tensors: Tensor) -> dict[str, Tensor]:
        given = {name: tensors[name].detach().float().contiguous().numpy() for name in self._inputs}
        with self._lock:
            self._run(given)
            found = [self._request.get_output_tensor(n).data.copy() for n in range(len(self._outputs))]
        return {name: torch.from_numpy(value) for name, value in zip(self._outputs, found, strict=True)}

    def _run(self, given: Mapping[str, np.ndarray]) -> None:
        if not is_interruptible():
            self._request.infer(given, share_inputs=True)
            return
        self._request.start_async(given, share_inputs=True)
        try:
            while not self._request.wait_for(_POLL_MS):
                check_interruption()
        except BaseException:  # also Ctrl-C: while it runs it reads ``given``, which goes with this call
            self._request.cancel()
            with suppress(RuntimeError):  # which is how it says that it was cancelled
                self._request.wait()
            raise


class _Decoder(nn.Module):
    """``predict_masks`` as a function of tensors in a fixed order."""

    def __init__(self, network: PromptableNetwork, names: Sequence[str]) -> None:
        super().__init__()
        self.decoder, self.names = network.mask_decoder, tuple(names)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        return self.decoder.predict_masks(**dict(zip(self.names, tensors, strict=True)))


class _Conversion:
    """The graphs of a network, converted with example inputs and compared with the network on others.

    Args:
        network: in eval mode, on the CPU.
    """

    def __init__(self, network: PromptableNetwork) -> None:
        self.network = network

    @cached_property
    def image(self) -> Tensor:
        """(1, *input_shape) noise, as no part of a network is idle on it."""
        return torch.randn(1, *self.network.spec.input_shape, generator=torch.Generator().manual_seed(0))

    @cached_property
    def prepared(self) -> Prepared:
        """What the network itself makes of it."""
        with torch.no_grad():
            return self.network.prepare(self.image)

    def encoder(self) -> Parts:
        """Of ``prepare``, for one image."""
        asked = {"images": self.image}
        return self._convert("encoder", EncoderGraph(self.network), asked, asked, self.prepared.tensors)

    @torch.no_grad()
    def decoder(self) -> Parts:
        """Of ``predict_masks``, for any number of objects and prompts."""
        asked, others = self._decoder_inputs(3, 5), self._decoder_inputs(2, 2)
        expected = self.network.mask_decoder.predict_masks(**others)
        return self._convert(
            "decoder",
            _Decoder(self.network, list(asked)),
            asked,
            others,
            dict(zip(("logits", "iou"), expected, strict=True)),
        )

    def _decoder_inputs(self, objects: int, tokens: int) -> dict[str, Tensor]:
        size, mask = self.network.spec.input_shape[-1], self.network.spec.mask_size
        draw = torch.Generator().manual_seed(objects)
        prompts = PromptBatch(
            points=size * torch.rand(objects, tokens, 2, generator=draw),
            point_labels=torch.ones(objects, tokens),
            masks=torch.randn(objects, 1, mask, mask, generator=draw),
            image_index=torch.zeros(objects),
        )
        features = self.prepared.of_objects(prompts).tensors
        return self.network.decoder_inputs(features, prompts.tokens(), prompts.masks)

    def _convert(
        self,
        part: str,
        module: nn.Module,
        asked: Mapping[str, Tensor],
        others: Mapping[str, Tensor],
        expected: Mapping[str, Tensor],
    ) -> Parts:
        """Trace a part with some inputs, and compare what it gives for others, which differ in every free axis."""
        logger.info("Converting the %s of this network for OpenVINO, once; it takes a minute or two", part)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of shapes that become constants because they are constants
            traced = torch.jit.trace(module.eval(), tuple(asked.values()), check_trace=False)
            model = openvino.convert_model(traced, example_input=tuple(asked.values()))
        for port, (name, one) in zip(model.inputs, asked.items(), strict=True):
            port.get_tensor().set_names({name})
            port.get_node().set_partial_shape(_free_axes(one, others[name]))
        for port, name in zip(model.outputs, expected, strict=True):
            port.get_tensor().set_names({name})
        model.validate_nodes_and_infer_types()
        parts = _serialised(model)
        found = _Graph(parts, bfloat16=False)(**others)
        for name, right in expected.items():
            deviation = float((found[name] - right).norm() / right.norm())
            if not deviation <= _LARGEST_DEVIATION:
                raise EngineError(f"OpenVINO's {name} deviates by {deviation:.3f} from this network's own")
        return parts


def _free_axes(one: Tensor, other: Tensor) -> openvino.PartialShape:
    return openvino.PartialShape([a if a == b else -1 for a, b in zip(one.shape, other.shape, strict=True)])


def _serialised(model: openvino.Model) -> Parts:
    with tempfile.TemporaryDirectory(prefix="monai-sam-graph-") as folder:
        xml, weights = Path(folder, "graph.xml"), Path(folder, "graph.bin")
        openvino.serialize(model, str(xml), str(weights))
        return {"graph.xml": xml.read_bytes(), "weights.bin": weights.read_bytes()}


def _key(network: PromptableNetwork, identity: str, part: str) -> str:
    """What a graph depends on: weights, structure, and the versions of what made it."""
    shapes = [(name, tuple(value.shape)) for name, value in network.state_dict().items()]
    about = f"{_LAYOUT} {__version__} {openvino.__version__} {part} {identity} {network.spec} {network} {shapes}"
    return hashlib.sha256(about.encode()).hexdigest()
