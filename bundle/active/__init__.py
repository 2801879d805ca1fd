"""Active learning: what a model says of images that nobody has labelled, and which of them to label next."""
