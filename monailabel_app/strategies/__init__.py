"""Active learning for MONAI Label's clients: which image is next, who works on what, and the scores behind it."""
