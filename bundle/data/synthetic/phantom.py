"""A generated abdominal CT: free of anyone's data, the same for the same seed, a new patient for another.

The patient stands in a frame of millimetres around the middle of the body: x to the patient's right, y to anterior,
z to superior. Positions and sizes are those of a textbook adult, rounded; every one varies with the seed, and a smooth
random deformation of the whole frame makes the outlines organic.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from bundle.data.labels import FLARE22_LABELS
from bundle.data.synthetic.body_frame import BodyFrame, smooth_noise
from bundle.data.volume import Volume, write_label, write_volume

# Half axes of the abdominal cavity (x, y) in mm that the organ positions below are given for.
_CAVITY = (135.0, 82.0)

# Organ -> (HU without contrast medium, HU gained in the portal venous phase).
_ENHANCEMENT = {
    "liver": (60, 50),
    "right_kidney": (35, 115),
    "left_kidney": (35, 115),
    "spleen": (50, 70),
    "pancreas": (42, 48),
    "aorta": (45, 135),
    "inferior_vena_cava": (42, 98),
    "gallbladder": (10, 0),
    "stomach": (35, 5),
}
PHANTOM_LABELS: dict[str, int] = {name: FLARE22_LABELS[name] for name in _ENHANCEMENT}

AIR, LUNG, GAS, FAT, MUSCLE = -1000.0, -830.0, -950.0, -100.0, 55.0
MARROW, CORTEX = 220.0, 650.0


def make_phantom(
    *,
    shape: tuple[int, int, int] = (128, 112, 64),
    spacing: tuple[float, float, float] = (3.0, 3.0, 4.0),
    seed: int = 0,
) -> tuple[Volume, Volume, dict[str, int]]:
    """Generate one patient.

    Args:
        shape: (I, J, K) voxels; the body fills them whatever the spacing.
        spacing: (i, j, k) mm, the defaults show a body of about 320 x 220 mm.
        seed: decides anatomy, contrast medium and noise.

    Returns:
        The CT (int16 HU, RAS, origin at the corner), its label map (uint8, ids of FLARE22), and name -> id of the
        nine organs in it.
    """
    patient = _Patient(shape, np.random.default_rng(seed))
    patient.draw()
    affine = np.diag([*map(float, spacing), 1.0])
    affine[:3, 3] = -(np.array(shape) - 1) / 2 * spacing
    image = Volume(patient.scan(), affine, "CT")
    return image, Volume(patient.labels, affine, "other"), dict(PHANTOM_LABELS)


def write_phantom(folder: str | Path, seed: int = 0) -> tuple[Path, Path]:
    """Write ``phantom_<seed>.nii.gz`` into ``folder/images`` and ``folder/labels``; returns both paths."""
    image, label, _ = make_phantom(seed=seed)
    name = f"phantom_{seed:04d}.nii.gz"
    return (
        write_volume(image, Path(folder, "images", name)),
        write_label(label.array, label, Path(folder, "labels", name)),
    )


class _Patient(BodyFrame):
    """Anatomy painted back to front into ``hu`` (float32) and ``labels`` (uint8)."""

    def __init__(self, shape: tuple[int, int, int], rng: np.random.Generator) -> None:
        self.hu = np.full(shape, AIR, np.float32)
        self.labels = np.zeros(shape, np.uint8)
        self.contrast = float(np.clip(rng.normal(1, 0.3), 0, 1.7))
        super().__init__(shape, rng)
        # Two fields are both near zero along thin random curves: vessels that branch nowhere but wander everywhere.
        self.vesselness = smooth_noise(shape, (15, 13, 10), rng) ** 2 + smooth_noise(shape, (15, 13, 10), rng) ** 2

    def draw(self) -> None:
        """Paint everything; later tissue covers earlier."""
        self._draw_body()
        self._draw_chest()
        self._draw_bowel()
        self._draw_organs()
        self._draw_vessels()
        self._draw_bones_and_back()

    def scan(self) -> np.ndarray:
        """(I, J, K) int16 HU as a scanner would give it: blurred over about a voxel, grainy, with tissue texture."""
        rng = self.rng
        texture = 5 * smooth_noise(self.shape, (30, 26, 16), rng) + 4 * smooth_noise(self.shape, (8, 7, 5), rng)
        tissue = self.hu + texture * (self.hu > -300)
        blurred = gaussian_filter(tissue, sigma=(0.55, 0.55, 0.35))
        grain = gaussian_filter(rng.standard_normal(self.shape).astype(np.float32), sigma=(0.6, 0.6, 0))
        noisy = blurred + grain / grain.std() * rng.uniform(6, 18)
        return np.clip(np.round(noisy), -1024, 3071).astype(np.int16)

    def _paint(self, where: np.ndarray, hu: float | np.ndarray, organ: str | None = None) -> None:
        self.hu[where] = hu
        self.labels[where] = PHANTOM_LABELS[organ] if organ else 0

    def _organ_hu(self, organ: str) -> float:
        plain, gain = _ENHANCEMENT[organ]
        return plain + gain * self.contrast + self.rng.normal(0, 6)

    # --- the anatomy, from outside in --------------------------------------------------------------------------------

    def _draw_body(self) -> None:
        """Couch, skin fat, the muscle wall and the fat-filled cavity; organs are then drawn in cavity units."""
        rng = self.rng
        half_x, half_y = rng.uniform(150, 172), rng.uniform(102, 122)
        fat, wall = rng.uniform(8, 26), rng.uniform(9, 14)
        couch = np.abs(self.axes[1][None, :] + half_y + 14 - 0.0006 * self.axes[0][:, None] ** 2) < 6
        self.hu[couch & (np.abs(self.axes[0])[:, None] < 175)] = -250

        def oval(inset: float) -> np.ndarray:
            return np.abs(self.x / (half_x - inset)) ** 2.4 + np.abs(self.y / (half_y - inset)) ** 2.4 < 1

        self.wall = oval(fat)
        self.rib_cage = self.wall & ~oval(fat + 0.75 * wall) & oval(fat + 0.1 * wall)
        self.cavity = oval(fat + wall)
        self._paint(oval(0), FAT + rng.normal(0, 5))
        self._paint(self.wall, MUSCLE)
        self._paint(self.cavity, FAT + rng.normal(0, 5))
        for axis, standard, half in ((0, _CAVITY[0], half_x), (1, _CAVITY[1], half_y)):
            scale = standard / (half - fat - wall)
            self.axes[axis] *= scale
            (self.x, self.y)[axis][:] *= scale

    def _draw_chest(self) -> None:
        """Lungs above two domes of the diaphragm, and the heart between them."""
        height = self.rng.uniform(70, 92)
        right = height - 0.008 * ((self.x - 65) ** 2 + self.y**2)
        left = height - 12 - 0.008 * ((self.x + 75) ** 2 + self.y**2)
        self.chest = self.cavity & (self.z > np.maximum(right, left))
        self._paint(self.chest, LUNG)
        self._paint(self.chest & (self.vesselness < 0.06), 0.0)
        mediastinum = np.abs(self.x) < 24 + 0.1 * (self.z - height)
        self._paint(self.chest & mediastinum & (self.y < 40), 20.0)
        heart = self.radius((-22, 28, 132), (58, 46, 48))
        self._paint(self.chest & (heart < 1), 55 + 95 * self.contrast)
        self.abdomen = self.cavity & ~self.chest

    def _draw_bowel(self) -> None:
        """Small bowel as wandering tubes, colon as a frame around it; contents, gas pockets, thin bright wall."""
        for _ in range(10):
            start = np.array([self.rng.uniform(-45, 45), 25, -65])
            steps = start + np.cumsum(self.rng.normal(0, 22, (7, 3)), axis=0)
            loops = np.clip(steps, (-78, -15, -135), (78, 62, -22))
            self._draw_gut(self.tube([(*point, self.rng.uniform(9, 13)) for point in loops]), gas_share=0.15)
        ascending = [(100, -8, -130, 24), (104, -6, -75, 23), (98, 10, -42, 21)]
        transverse = [(92, 40, -45, 17), (35, 58, -62, 15), (-35, 58, -55, 15), (-98, 30, -8, 16)]
        descending = [(-108, -14, -10, 15), (-108, -20, -70, 14), (-100, -10, -130, 14)]
        for part, gas_share in ((ascending, 0.35), (transverse, 0.6), (descending, 0.3)):
            self._draw_gut(self.tube(part), gas_share=gas_share)

    def _draw_gut(self, distance: np.ndarray, *, gas_share: float) -> None:
        inside = self.abdomen & (distance < 1)
        if not inside.any():
            return
        self._paint(inside, 75 + 25 * self.contrast)
        lumen = inside & (distance < 0.8)
        self._paint(lumen, self.rng.uniform(5, 60))
        level = np.quantile(self.y[inside], 1 - gas_share * self.rng.uniform(0.3, 1))  # gas rises to anterior
        self._paint(lumen & (self.y > level), GAS)

    def _draw_organs(self) -> None:
        self._draw_stomach()
        self._draw_spleen()
        self._draw_liver()
        self._draw_kidney("right_kidney", (60, -42, -28))
        self._draw_kidney("left_kidney", (-62, -44, -8))
        head_to_tail = [(30, -2, -24, 15), (22, 12, -6, 12), (-6, 24, 6, 9.5), (-40, 10, 14, 11), (-84, -22, 24, 8)]
        lobules = 1 + 0.10 * smooth_noise(self.shape, (26, 22, 16), self.rng)
        self._draw_organ("pancreas", self.tube(head_to_tail) * lobules < 1)
        self._draw_organ("gallbladder", self.tube([(50, 28, 0, 11), (54, 46, -22, 15)]) < 1)

    def _draw_organ(self, organ: str, inside: np.ndarray) -> None:
        self._paint(inside & self.abdomen, self._organ_hu(organ), organ)

    def _draw_stomach(self) -> None:
        fundus = self.radius((-62, 18, 52), (44, 44, 38))
        antrum = self.tube([(-60, 34, 36, 30), (-28, 52, 4, 22), (14, 44, -2, 13)])
        distance = np.minimum(fundus, antrum)
        self._paint(self.abdomen & (distance < 1), 80 + 20 * self.contrast, "stomach")
        lumen = self.abdomen & (distance < 0.88)
        self._paint(lumen, self._organ_hu("stomach"), "stomach")
        self._paint(lumen & (self.y > self.rng.uniform(25, 52)), GAS, "stomach")

    def _draw_spleen(self) -> None:
        """A thick shell on the left back wall: an ellipsoid without the place of stomach and kidney."""
        hollow = self.radius((-66, -6, 38), (42, 50, 70)) < 1
        self._draw_organ("spleen", (self.radius((-104, -30, 42), (40, 56, 46)) < 1) & ~hollow)

    def _draw_liver(self) -> None:
        """Two lobes above a plane that rises from the right flank to the left, with portal and hepatic veins."""
        lobes = np.minimum(self.radius((70, -2, 34), (80, 90, 84)), self.radius((-4, 40, 56), (70, 44, 38)))
        lower_face = self.z > 22 - 0.75 * self.x + self.rng.normal(0, 6) - 0.15 * self.y
        liver = (lobes < 1) & lower_face & ((self.x > 34) | (self.y > 0))
        self._draw_organ("liver", liver)
        veins = self.abdomen & liver & (self.vesselness < 0.05)
        self.hu[veins] += 12 + 30 * self.contrast

    def _draw_kidney(self, organ: str, center: tuple[float, float, float]) -> None:
        distance = self.radius(center, (27, 24, 50))
        self._draw_organ(organ, distance < 1)
        cortex = self.abdomen & (distance > 0.75) & (distance < 1)
        self.hu[cortex] += 25 * self.contrast
        x, y, z = center
        sinus = self.radius((x - np.sign(x) * 15, y + 5, z), (13, 8, 19)) < 1
        self._paint(sinus & self.abdomen, FAT + 30)

    def _draw_vessels(self) -> None:
        mesentery = self.abdomen & (self.hu < -60) & (self.hu > -200) & (self.vesselness < 0.03)
        self._paint(mesentery, 40 + 80 * self.contrast)
        portal = self.tube([(-50, 2, 10, 5), (4, 10, 4, 7), (42, 8, 34, 7), (70, 0, 48, 5)])
        self._paint((portal < 1) & self.abdomen, self._organ_hu("inferior_vena_cava"))
        cava = self.tube([(20, -14, -140, 10), (22, -14, -40, 11), (26, -10, 40, 12), (20, 2, 92, 13)], jitter=2)
        self._paint((cava < 1) & self.cavity, self._organ_hu("inferior_vena_cava"), "inferior_vena_cava")
        aorta = self.tube([(-8, -17, -140, 9), (-12, -15, -30, 10), (-16, -22, 50, 11), (-24, -30, 140, 12)], jitter=2)
        self._paint((aorta < 1) & self.cavity, self._organ_hu("aorta"), "aorta")

    def _draw_bones_and_back(self) -> None:
        for side in (-1, 1):
            psoas = self.tube([(side * 44, -40, -150, 25), (side * 32, -46, -40, 17), (side * 26, -50, 10, 8)])
            self._paint((psoas < 1) & self.abdomen & (self.labels == 0), MUSCLE + 5)
            erector = self.tube([(side * 32, -88, -150, 22), (side * 30, -88, 150, 20)])
            self._paint((erector < 1) & self.wall, MUSCLE)
            self._draw_bone(self.radius((side * 100, -25, -142), (18, 55, 46)))
        slanted = self.z + 0.45 * self.y - 0.1 * np.abs(self.x)
        ribs = self.rib_cage & (np.cos(slanted * (2 * np.pi / 30)) > 0.4) & (self.z > -25 + 0.3 * self.y)
        self._paint(ribs, self.rng.uniform(300, 450))
        self._draw_bone(self.tube([(0, -50, -150, 24), (0, -48, 0, 22), (0, -56, 150, 20)], jitter=1))
        disc = np.cos(self.z * (2 * np.pi / 34)) > 0.85
        self._paint((self.hu > 150) & (np.abs(self.x) < 26) & (self.y < -25) & disc & (self.labels == 0), 90.0)
        self._draw_bone(self.tube([(0, -88, -150, 7), (0, -90, 150, 7)], jitter=1))
        self._paint(self.tube([(0, -74, -150, 8), (0, -76, 150, 8)], jitter=0) < 1, 25.0)

    def _draw_bone(self, distance: np.ndarray) -> None:
        inside = self.wall & (distance < 1)
        self._paint(inside, CORTEX + self.rng.normal(0, 60))
        self._paint(inside & (distance < 0.87), MARROW + self.rng.normal(0, 30))
