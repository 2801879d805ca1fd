"""Label names and numbers that several rooms share."""

from __future__ import annotations

# The 13 organs of the FLARE22 challenge, in its numbering.
FLARE22_LABELS: dict[str, int] = {
    "liver": 1,
    "right_kidney": 2,
    "spleen": 3,
    "pancreas": 4,
    "aorta": 5,
    "inferior_vena_cava": 6,
    "right_adrenal_gland": 7,
    "left_adrenal_gland": 8,
    "gallbladder": 9,
    "esophagus": 10,
    "stomach": 11,
    "duodenum": 12,
    "left_kidney": 13,
}
