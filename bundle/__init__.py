"""monai-sam: Segment Anything for medical images, as a MONAI bundle."""

__version__ = "0.1.0"
