"""Drawn pictures of what a promptable network finds hard, with the object that is meant.

``shapes`` draws label maps in which every structure has one shade. In pictures of people an object and a shade are two
things: borders fade, speckle and ribs lie across, an organ has a bright wall or a dark core, a vessel tree is one
object of many branches, a pancreas shows as two pieces with bowel of the same shade between. A scene draws its picture
itself, and says by a label map which of its structures belong together. Where a point has several meanings (core,
tumour; lumen, vessel) the same picture comes with a map for each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from scipy import ndimage
from scipy.special import expit
from tqdm import tqdm

from bundle.data.labelled_slice import LabelledSlice
from bundle.data.synthetic.shapes import draw_blob, draw_shapes, draw_tube, pixel_depth, smooth_field
from bundle.transforms.contract import View

_MIN_PIXELS = 60  # of an object; smaller ones are no lesson
_MAX_SHARE = 0.5  # of the picture
_CONTRAST = (0.12, 0.5)  # between object and surroundings, in shares of the range of grey values
_TRIES = 20


class Scene:
    """A picture that is being drawn.

    Args:
        size: side in pixels.
        rng: decides everything.

    Attributes:
        picture: (size, size) float32 in 0..1.
        maps: the objects, each a (size, size) bool mask; one picture with several meanings has several.
    """

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self.size, self.rng = size, rng
        shades = rng.uniform(0.15, 0.85, 256)
        around = draw_shapes(size, rng)
        self.picture = ndimage.gaussian_filter(shades[around % 256].astype(np.float32), 0.7)
        self.maps: list[np.ndarray] = []

    def paint(self, mask: np.ndarray, shade: float, *, softness: float | np.ndarray = 0.7) -> None:
        """Give a structure a shade, with an edge that is soft over so many pixels."""
        share = _soft(mask, softness)
        self.picture += share * (np.float32(shade) - self.picture)

    def blob(self) -> np.ndarray:
        """(size, size) bool: an outline like that of an organ, most of it in the picture."""
        return draw_blob(self.size, self.rng, centre=self.rng.uniform(0.15, 0.85, 2) * self.size)

    def shades(self) -> tuple[float, float]:
        """A shade for the surroundings and another one for the object."""
        contrast = self.rng.uniform(*_CONTRAST)
        low = self.rng.uniform(0.05, 0.95 - contrast)
        pair = (low, low + contrast)
        return pair if self.rng.random() < 0.5 else pair[::-1]


def weak_border(scene: Scene) -> None:
    """An object whose border fades over about half of its outline into surroundings of its shade."""
    mask = scene.blob()
    outside, inside = scene.shades()
    scene.paint(_grown(mask, 12), outside, softness=3.0)
    fade = smooth_field(scene.size, scene.size / scene.rng.uniform(1.5, 4), scene.rng)
    scene.paint(mask, inside, softness=np.where(fade > 0, 0.7, scene.rng.uniform(4, 12)).astype(np.float32))
    scene.maps = [mask]


def speckle(scene: Scene) -> None:
    """An object in ultrasound: Rayleigh-distributed speckle over everything, the border known by texture and level."""
    mask = scene.blob()
    outside, inside = scene.shades()
    scene.paint(np.ones_like(mask), outside)
    scene.paint(mask, inside, softness=scene.rng.uniform(0.7, 4))
    grain = (scene.rng.uniform(0.6, 1.5), scene.rng.uniform(0.8, 3.0))  # a beam is wider than its pulse is long
    parts = [ndimage.gaussian_filter(scene.rng.standard_normal(mask.shape), grain) for _ in range(2)]
    amplitude = np.hypot(*parts)  # of a sum of many waves: Rayleigh
    strength = scene.rng.uniform(0.3, 0.9)
    scene.picture *= (1 - strength + strength * amplitude / amplitude.mean()).astype(np.float32)
    scene.maps = [mask]


def ribs(scene: Scene) -> None:
    """An object with bright bands across, as ribs cross a lung: they belong to it where they cross it."""
    mask = scene.blob()
    outside, inside = scene.shades()
    scene.paint(_grown(mask, 10), outside, softness=2.0)
    scene.paint(mask, inside)
    rows, columns = np.mgrid[: scene.size, : scene.size]
    angle, period = scene.rng.uniform(0, np.pi), scene.rng.uniform(0.06, 0.2) * scene.size
    bend = scene.rng.uniform(3, 12) * smooth_field(scene.size, scene.size / 2, scene.rng)
    wave = np.cos((np.cos(angle) * columns + np.sin(angle) * rows + bend) * 2 * np.pi / period)
    bands = ndimage.gaussian_filter((wave > scene.rng.uniform(0.2, 0.7)).astype(np.float32), 1.0)
    scene.picture += np.float32(scene.rng.choice([-1, 1]) * scene.rng.uniform(0.1, 0.35)) * bands
    scene.maps = [mask]


def rim(scene: Scene) -> None:
    """An object with a wall of another shade, which is meant as well; a point in it may also mean what it encloses."""
    mask = scene.blob()
    outside, inside = scene.shades()
    wall = scene.rng.uniform(0.02, 0.08) * scene.size
    inner = pixel_depth(mask) > wall
    scene.paint(_grown(mask, 10), outside, softness=2.0)
    scene.paint(mask, scene.rng.uniform(0.05, 0.95))
    scene.paint(inner, inside)
    scene.maps = [mask, inner]


def necrosis(scene: Scene) -> None:
    """A mass with an irregular core of the surroundings' shade; a point on the core may also mean the core alone."""
    mask = scene.blob()
    outside, inside = scene.shades()
    field = smooth_field(scene.size, scene.size / scene.rng.uniform(6, 14), scene.rng)
    depth = pixel_depth(mask)
    core = (depth > scene.rng.uniform(0.15, 0.45) * depth.max()) & (field > scene.rng.uniform(-1, 0.3))
    scene.paint(_grown(mask, 10), outside, softness=2.0)
    scene.paint(mask, inside)
    scene.paint(core, outside + 0.3 * (inside - outside) * scene.rng.random(), softness=1.5)
    scene.maps = [mask, _largest(core)]


def ring(scene: Scene) -> None:
    """A ring as a muscle around a chamber or a disc's margin: the ring is one object, what it encloses another."""
    mask = scene.blob()
    depth = pixel_depth(mask)
    hole = depth > scene.rng.uniform(0.25, 0.6) * depth.max()
    outside, inside = scene.shades()
    scene.paint(_grown(mask, 10), outside, softness=2.0)
    scene.paint(mask, inside)
    scene.paint(hole, scene.rng.uniform(0.05, 0.95))
    scene.maps = [mask & ~hole, hole]


def tube(scene: Scene) -> None:
    """A long winding tube, a wall around its lumen; crossing structures leave it whole."""
    mask = draw_tube(scene.size, scene.rng)
    outside, inside = scene.shades()
    scene.paint(_grown(mask, 8), outside, softness=3.0)
    scene.paint(mask, inside)
    scene.maps = [mask]


def tree(scene: Scene) -> None:
    """A vessel tree: branches that divide and grow thinner, one object; a point may also mean the branch under it."""
    rng, size = scene.rng, scene.size
    drawn = np.zeros((size, size), np.uint8)
    trunk = np.zeros_like(drawn)
    start, heading = rng.uniform(0.2, 0.8, 2) * size, rng.uniform(0, 2 * np.pi)
    branches = [(start, heading, rng.uniform(0.015, 0.04) * size, 0)]
    while branches:
        place, angle, width, order = branches.pop()
        for _ in range(rng.integers(8, 20)):
            further = place + 0.02 * size * np.array([np.cos(angle), np.sin(angle)])
            ends = [tuple(int(v) for v in np.rint(p)) for p in (place, further)]
            for canvas in (drawn, trunk) if order == 0 else (drawn,):
                cv2.line(canvas, ends[0], ends[1], 1, max(1, round(2 * width)))
            place, angle = further, angle + rng.normal(0, 0.15)
        if order < 4 and width > 0.004 * size:
            branches += [(place, angle + turn, width * rng.uniform(0.6, 0.85), order + 1) for turn in (-0.5, 0.5)]
    outside, inside = scene.shades()
    scene.paint(_grown(drawn > 0, 6), outside, softness=3.0)
    scene.paint(drawn > 0, inside)
    scene.maps = [drawn > 0, trunk > 0]


def pieces(scene: Scene) -> None:
    """Two or three pieces of one object with structures of nearly its shade between them, which are not meant."""
    rng, size = scene.rng, scene.size
    outside, inside = scene.shades()
    middle, along = rng.uniform(0.35, 0.65, 2) * size, rng.uniform(0, np.pi)
    step = rng.uniform(0.13, 0.2) * size * np.array([np.cos(along), np.sin(along)])
    count = int(rng.integers(2, 4))  # pieces that are meant
    places = [middle + (2 * k - (2 * count - 2) / 2) * step for k in range(2 * count - 1)]  # every second one is meant
    meant = np.zeros((size, size), bool)
    near = inside + rng.uniform(-0.08, 0.08)
    scene.paint(np.hypot(*(np.mgrid[:size, :size][::-1] - middle[:, None, None])) < 0.5 * size, outside, softness=6.0)
    for number, place in enumerate(places):
        piece = draw_blob(size, rng, centre=place, longest=0.12) & ~meant
        scene.paint(piece, near if number % 2 else inside)
        meant = meant & ~piece if number % 2 else meant | piece
    scene.maps = [meant]


KINDS: dict[str, Callable[[Scene], None]] = {
    kind.__name__: kind for kind in (weak_border, speckle, ribs, rim, necrosis, ring, tube, tree, pieces)
}


def draw_scene(kind: str, size: int, rng: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray]]:
    """Draw one picture that is hard in a known way.

    Args:
        kind: one of ``KINDS``.
        size: side in pixels.
        rng: decides everything.

    Returns:
        (size, size) uint8, and the objects in it, each a (size, size) bool mask: one, or one for each meaning.
    """
    for _ in range(_TRIES):
        scene = Scene(size, rng)
        KINDS[kind](scene)
        scene.maps = [mask for mask in scene.maps if _MIN_PIXELS <= mask.sum() <= _MAX_SHARE * mask.size]
        if scene.maps:
            break
    grain = rng.uniform(0, 0.06) * smooth_field(size, rng.uniform(2, 6), rng)
    return np.rint(255 * (scene.picture + grain).clip(0, 1)).astype(np.uint8), scene.maps


def scene_pool(
    count: int, *, size: int = 256, seed: int = 0, kinds: Sequence[str] = tuple(KINDS)
) -> list[LabelledSlice]:
    """So many scenes of each kind in turn as labelled slices, one slice for each meaning of a picture.

    They are 8-bit pictures of no tissue: gather them as ``never_ct``, their labels as ``instances``.
    """
    pool = []
    for number in tqdm(range(count), desc="drawing scenes", leave=False):
        kind = kinds[number % len(kinds)]
        picture, maps = draw_scene(kind, size, np.random.default_rng((seed, number)))
        name = f"{kind}-{number}"
        for meaning, mask in enumerate(maps):
            views, key = (View(0.0, 255.0),) * 3, f"{name}-{meaning}"
            pool.append(LabelledSlice(picture, mask.astype(np.uint8), (1,), views, "windowed", (1.0, 1.0), name, key))
    return pool


def _soft(mask: np.ndarray, softness: float | np.ndarray) -> np.ndarray:
    """(H, W) float32: 1 deep inside, 0 far outside, half of the way at the border over ``softness`` pixels."""
    signed = pixel_depth(mask) - pixel_depth(~mask)
    return expit(2 * (signed - 0.5 * np.sign(signed)) / np.maximum(softness, 0.3)).astype(np.float32)


def _grown(mask: np.ndarray, pixels: float) -> np.ndarray:
    return pixel_depth(~mask) <= pixels


def _largest(mask: np.ndarray) -> np.ndarray:
    count, found = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return found == 1 + np.bincount(found.ravel(), minlength=count)[1:].argmax() if count > 1 else mask
