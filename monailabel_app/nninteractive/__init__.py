"""The dialect of nnInteractive's clients (napari, MITK, 3D Slicer since its plug-in 1.0)."""
