"""Where studies, labels and uploaded volumes lie."""
