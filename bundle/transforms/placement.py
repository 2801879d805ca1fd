"""Where a slice lies in the model's square, and the way back.

The only code that maps between pixels of a slice and pixels of the network input. Coordinates are SAM's: a pixel
index ``x`` of the slice becomes ``x * scale`` in the square, without a half-pixel shift, exactly as
segment-anything's ``ResizeLongestSide.apply_coords`` does, so that official checkpoints see what they were trained on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from bundle.errors import ContractError, FrameError
from bundle.transforms.crop import Window

RESIZE_RULES = ("longest", "stretch", "pad_center")
BOX_MAPPINGS = ("inclusive", "scaled", "truncated")
NOT_SEEN = -20.0  # a logit of 2e-9: not the object


@dataclass(frozen=True)
class Placement:
    """The rectangle of a model square of ``size`` pixels that a slice, or a window of it, fills.

    Attributes:
        size: side of the square.
        height, width: pixels of the slice that are placed, all of them or those of the window.
        content_height, content_width: their size in the square.
        top, left: their corner in the square.
        window: the part of the slice that is placed; None is all of it.
        slice_shape: (H, W) of the slice that has a window.
        box_mapping: rule of :meth:`box_to_square`.
    """

    size: int
    height: int
    width: int
    content_height: int
    content_width: int
    top: int = 0
    left: int = 0
    window: Window | None = None
    slice_shape: tuple[int, int] | None = None
    box_mapping: str = "inclusive"

    @classmethod
    def of(
        cls,
        height: int,
        width: int,
        *,
        size: int,
        rule: str = "longest",
        pixel_spacing: tuple[float, float] = (1.0, 1.0),
        window: Window | None = None,
        box_mapping: str = "inclusive",
    ) -> Placement:
        """Place a slice, or the part of it in a window.

        Args:
            height: rows of the slice.
            width: columns of the slice.
            size: side of the model square in pixels.
            rule: ``longest`` scales the longer side to ``size`` and pads right and bottom (SAM, LiteMedSAM);
                ``stretch`` fills the square and gives up the aspect ratio (MedSAM); ``pad_center`` centres a slice
                whose sides are both below ``size`` without scaling it and stretches any other (SAM-Med2D).
            pixel_spacing: (dy, dx) size of a pixel. Only their ratio matters and only to ``longest``: with (1, 1) the
                pixels are taken as square.
            window: the part of the slice to place; None is all of it.
            box_mapping: rule of :meth:`box_to_square`.

        Raises:
            ContractError: for an unknown rule.
            FrameError: for an empty slice.
        """
        if window is not None:
            part = cls.of(window.height, window.width, size=size, rule=rule, pixel_spacing=pixel_spacing)
            return replace(part, window=window, slice_shape=(height, width), box_mapping=box_mapping)
        if min(height, width) < 1:
            raise FrameError(f"slice must have at least one pixel, got {height} x {width}")
        if rule not in RESIZE_RULES:
            raise ContractError(f"resize rule must be one of {', '.join(RESIZE_RULES)}, got {rule!r}")
        if box_mapping not in BOX_MAPPINGS:
            raise ContractError(f"box mapping must be one of {', '.join(BOX_MAPPINGS)}, got {box_mapping!r}")
        top = left = 0
        if rule == "pad_center" and max(height, width) < size:
            rows, columns = height, width
            top, left = (size - height) // 2, (size - width) // 2
        elif rule != "longest":
            rows, columns = size, size
        else:
            lengths = height * pixel_spacing[0], width * pixel_spacing[1]
            scale = size / max(lengths)
            rows, columns = (min(size, max(1, int(length * scale + 0.5))) for length in lengths)
        return cls(size, height, width, rows, columns, top, left, box_mapping=box_mapping)

    @property
    def scale(self) -> tuple[float, float]:
        """(sx, sy): square pixels per slice pixel."""
        return self.content_width / self.width, self.content_height / self.height

    def to_square(self, xy: np.ndarray) -> np.ndarray:
        """Map (..., 2) float (x, y) slice pixels to (x, y) pixels of the square."""
        return (np.asarray(xy, dtype=np.float64) - self._origin) * self.scale + (self.left, self.top)

    def to_slice(self, xy: np.ndarray) -> np.ndarray:
        """Map (..., 2) float (x, y) pixels of the square to slice pixels: the inverse of :meth:`to_square`."""
        return (np.asarray(xy, dtype=np.float64) - (self.left, self.top)) / self.scale + self._origin

    @property
    def to_slice_matrix(self) -> np.ndarray:
        """(4, 4) float64 of :meth:`to_slice` for stacked slices: (slice, row, column) of the square to those of the
        slice."""
        (left, top), (right, bottom) = self.to_slice(np.array([[0, 0], [1, 1]]))
        matrix = np.diag([1.0, bottom - top, right - left, 1.0])
        matrix[1:3, 3] = top, left
        return matrix

    def box_to_square(self, box: np.ndarray) -> np.ndarray:
        """Map (..., 4) boxes (x0, y0, x1, y1) of the slice, both corners inclusive pixels, to the square.

        A published network gets its box where its own code would put it. Where a pixel of the slice becomes several of
        the square, the rules differ by as many:

        - ``scaled`` scales both corners as points (SAM's and SAM-Med2D's ``apply_boxes``; MedSAM's ``box / W * 1024``).
        - ``truncated`` scales both axes by size / longest side and drops the fraction (LiteMedSAM's
          ``resize_box_to_256``).
        - ``inclusive``, of this project's own networks, ends with the last of the pixels that the box's last pixel
          becomes, so that a tight box becomes the tight box of the enlarged mask.
        """
        box = np.asarray(box, dtype=np.float64)
        corners = box.reshape(*box.shape[:-1], 2, 2)
        if self.box_mapping == "truncated":
            ratio = self.size / max(self.height, self.width)
            return np.trunc((corners - self._origin) * ratio).reshape(box.shape)
        square = self.to_square(corners)
        if self.box_mapping == "inclusive":
            square[..., 1, :] += np.maximum(np.asarray(self.scale) - 1, 0)
        return square.reshape(box.shape)

    def image_to_content(self, image: np.ndarray, interpolation: str) -> np.ndarray:
        """Resize an (H, W, C) uint8 or float32 image to (content_height, content_width, C), same value range.

        8-bit images stay so, but for ``cubic``, which keeps fractions.
        """
        image = self._cut(image)
        if image.shape[:2] == (self.content_height, self.content_width):
            return image
        return _INTERPOLATIONS[interpolation](image, self.content_height, self.content_width)

    def pad(self, content: np.ndarray) -> np.ndarray:
        """Put (content_height, content_width, C) into a square of zeros, (size, size, C)."""
        square = np.zeros((self.size, self.size, content.shape[2]), dtype=content.dtype)
        square[self._rows, self._columns] = content
        return square

    def mask_to_square(self, mask: np.ndarray) -> np.ndarray:
        """Map an (H, W) mask or label slice to (size, size) by nearest neighbour; padding is 0."""
        mask = self._cut(mask)
        square = np.zeros((self.size, self.size), dtype=mask.dtype)
        rows = _nearest(self.content_height, self.height)
        columns = _nearest(self.content_width, self.width)
        square[self._rows, self._columns] = mask[np.ix_(rows, columns)]
        return square

    def mask_to_slice(self, square: np.ndarray) -> np.ndarray:
        """Map a (size, size) mask or label back to (H, W) by nearest neighbour; 0 outside of the window."""
        content = square[self._rows, self._columns]
        part = content[np.ix_(_nearest(self.height, self.content_height), _nearest(self.width, self.content_width))]
        if self.window is None:
            return part
        whole = np.zeros(self.slice_shape, dtype=part.dtype)
        whole[self.window.rows, self.window.columns] = part
        return whole

    def logits_to_slice(self, logits: Tensor) -> Tensor:
        """Scale (N, M, h, w) low-resolution logits of the square to (N, M, H, W) logits of the slice.

        Bilinear to the square, crop, bilinear to the slice: the two steps of segment-anything's ``postprocess_masks``.
        Outside of the window, where nobody looked, the logits are ``NOT_SEEN``.
        """
        square = interpolate(logits, (self.size, self.size), mode="bilinear", align_corners=False)
        content = square[..., self._rows, self._columns]
        part = interpolate(content, (self.height, self.width), mode="bilinear", align_corners=False)
        if self.window is None:
            return part
        whole = part.new_full((*part.shape[:2], *self.slice_shape), NOT_SEEN)
        whole[..., self.window.rows, self.window.columns] = part
        return whole

    def logits_to_square(self, logits: Tensor, size: int) -> Tensor:
        """Scale (N, M, H, W) logits of the slice to (N, M, size, size) logits over the square: a mask prompt.

        Outside of the slice there is no object, so the padding takes the smallest logit given.
        """
        if self.window is not None:
            logits = logits[..., self.window.rows, self.window.columns]
        content = interpolate(
            logits, (self.content_height, self.content_width), mode="bilinear", align_corners=False, antialias=True
        )
        square = torch.full((*logits.shape[:2], self.size, self.size), float(logits.min()), device=logits.device)
        square[..., self._rows, self._columns] = content
        return interpolate(square, (size, size), mode="bilinear", align_corners=False, antialias=True)

    def _cut(self, image: np.ndarray) -> np.ndarray:
        return image if self.window is None else self.window.cut(image)

    @property
    def _origin(self) -> tuple[int, int]:
        """(x, y) of the window's corner in the slice."""
        return (0, 0) if self.window is None else (self.window.left, self.window.top)

    @property
    def _rows(self) -> slice:
        return slice(self.top, self.top + self.content_height)

    @property
    def _columns(self) -> slice:
        return slice(self.left, self.left + self.content_width)


def _nearest(length: int, source: int) -> np.ndarray:
    """Index into ``source`` pixels of the pixel that holds the centre of each of ``length`` pixels."""
    return np.minimum(((np.arange(length) + 0.5) * source / length).astype(int), source - 1)


def _pil_bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    from PIL import Image  # not on a machine that only trains

    # What torchvision does with a PIL image, and so segment-anything: antialiased, rounded to 8 bits.
    channels = [
        Image.fromarray(np.ascontiguousarray(image[..., c])).resize((width, height), Image.Resampling.BILINEAR)
        for c in range(image.shape[2])
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)


def _cubic(image: np.ndarray, height: int, width: int) -> np.ndarray:
    # MedSAM's training images (pre_CT_MR.py): skimage, order 3, constant border, anti-aliasing, float from here on.
    from skimage.transform import resize  # not on a machine that only trains; a second that only this contract pays

    return resize(image, (height, width), order=3, mode="constant", preserve_range=True, anti_aliasing=True)


def _bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    # Antialiased when it shrinks, smooth when it enlarges (cv2's area rule repeats pixels there); keeps floats.
    tensor = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32).transpose(2, 0, 1))[None]
    resized = interpolate(tensor, (height, width), mode="bilinear", align_corners=False, antialias=True)
    return resized[0].numpy().transpose(1, 2, 0).astype(image.dtype)


def _area(image: np.ndarray, height: int, width: int) -> np.ndarray:
    resized = cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=cv2.INTER_AREA)
    return resized.reshape(height, width, -1)


def _nearest_pixel(image: np.ndarray, height: int, width: int) -> np.ndarray:
    resized = cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=cv2.INTER_NEAREST)
    return resized.reshape(height, width, -1)


_INTERPOLATIONS = {
    "pil_bilinear": _pil_bilinear,
    "cubic": _cubic,
    "bilinear": _bilinear,
    "area": _area,
    "nearest": _nearest_pixel,
}
INTERPOLATIONS = tuple(_INTERPOLATIONS)
