"""What was answered already, so that it is not computed again, within a budget."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from bundle.interactive.slice_model import SliceMask, SlicePrompt
from bundle.interactive.volume_model import VolumePrediction

Key = str | int
"""An object: its name where all prompts come each time, its id in a session of events."""

_SLICE_BYTES = 64 << 20  # some 130 answers of 512 x 512 with logits of 256 x 256; asking one again takes milliseconds


@dataclass(eq=False)
class Answered:
    """A prompt of a slice and its answer; None where there was no room to keep it."""

    prompt: SlicePrompt
    answer: SliceMask | None

    @property
    def nbytes(self) -> int:
        """Memory of the answer."""
        if self.answer is None:
            return 0
        return self.answer.mask.nbytes + (0 if self.answer.logits is None else self.answer.logits.nbytes)


class Memory:
    """What a session remembers of answers. In a session of events no answer hangs on it.

    Args:
        slice_bytes: budget of answers on slices. Those of the slice that was used longest ago go first, of one slice
            the earliest: the next prompt goes on from the last one.

    Attributes:
        volume: the last object that was segmented through the volume. Of one only: a model's memory may hold a mask
            and logits of every slice.
    """

    def __init__(self, *, slice_bytes: int = _SLICE_BYTES) -> None:
        self.slice_bytes = slice_bytes
        self.volume: tuple[Key, VolumePrediction] | None = None
        self._slices: OrderedDict[tuple[Key, int, int], list[Answered]] = OrderedDict()

    def on_slice(self, key: Key, axis: int, index: int) -> list[Answered]:
        """What was asked of an object on a slice along a stored axis, prompts that continue each other; to be changed.

        ``trim`` is to be called when it was.
        """
        history = self._slices.setdefault((key, axis, index), [])
        self._slices.move_to_end((key, axis, index))
        return history

    @property
    def held_bytes(self) -> int:
        """Memory of all answers on slices."""
        return sum(one.nbytes for history in self._slices.values() for one in history)

    def trim(self) -> None:
        """Forget what there is no room for."""
        held = self.held_bytes
        for place, history in list(self._slices.items()):
            for one in history:
                if held <= self.slice_bytes:
                    return
                held -= one.nbytes
                one.answer = None
            del self._slices[place]

    def forget(self, *keys: Key) -> None:
        """Forget some objects; without any, all."""
        for place in [place for place in self._slices if not keys or place[0] in keys]:
            del self._slices[place]
        if self.volume is not None and (not keys or self.volume[0] in keys):
            self.volume = None
