"""The demonstration: a user of 3D Slicer, played from a label that is known, and what the app answered."""
