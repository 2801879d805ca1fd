"""monai-sam: Segment Anything for medical images, as a MONAI bundle."""

from bundle.waiting import wait_passively

__version__ = "0.1.0"

wait_passively()
