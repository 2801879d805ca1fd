"""Prompts drawn as maps, one value per pixel, for networks that look at them instead of embedding tokens.

Clicks and boxes drawn as maps (as RITM, Sofiiuk et al. 2022, and nnInteractive, Isensee et al. 2025, feed them) say in
place what SAM's tokens say through attention, which took millions of images to learn.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bundle.prompts.batch import BACKGROUND, BOX_FIRST_CORNER, BOX_SECOND_CORNER, FOREGROUND

PROMPT_MAPS = 4  # clicks on and off the object, the inside of the box, the box as a dome
CLICK_RADIUS = 1 / 64  # of the model square: standard deviation of the spot of a click
# Tokens drawn at once: 4 MiB of spots an object at 256 x 256, however many clicks there are.
_TOKENS_AT_ONCE = 16


def draw_prompts(coords: Tensor, codes: Tensor, *, size: int, square: int) -> Tensor:
    """Draw the prompts of N objects.

    Args:
        coords: (N, T, 2) float, (x, y) in pixels of the model square.
        codes: (N, T), codes of ``bundle.prompts.batch``; padding draws nothing.
        size: side of the maps.
        square: side of the model square in pixels.

    Returns:
        (N, 4, size, size) float32: spots of foreground and of background clicks in 0..1, the inside of the box in 0..1,
        and the box as a dome, 1 in its middle, 0 on the ellipse that it encloses, -1 far outside; 0 without a box.
    """
    with torch.autocast(coords.device.type, enabled=False):
        coords = coords.float()
        centre = (torch.arange(size, device=coords.device, dtype=torch.float32) + 0.5) * (square / size) - 0.5
        clicks = _draw_clicks(coords, codes, centre, CLICK_RADIUS * square)
        first, second = (
            (coords * (codes == code)[..., None]).sum(dim=1) for code in (BOX_FIRST_CORNER, BOX_SECOND_CORNER)
        )
        given = (codes == BOX_FIRST_CORNER).any(dim=1).float().view(-1, 1, 1)
        middle, half = (first + second) / 2, ((second - first) / 2).clamp(min=1.0)
        u = (centre.view(1, 1, size) - middle[:, 0].view(-1, 1, 1)) / half[:, 0].view(-1, 1, 1)
        v = (centre.view(1, size, 1) - middle[:, 1].view(-1, 1, 1)) / half[:, 1].view(-1, 1, 1)
        inside = ((u.abs() <= 1) & (v.abs() <= 1)).float() * given
        dome = (1 - u**2 - v**2).clamp(-1.0, 1.0) * given
        return torch.stack([*clicks, inside, dome], dim=1)


def _draw_clicks(coords: Tensor, codes: Tensor, centre: Tensor, radius: float) -> list[Tensor]:
    """Foreground and background clicks as two maps (N, size, size): the highest spot at each pixel.

    Many tokens are drawn a few at a time, so that memory does not grow with them. Up to that number there is no loop,
    which keeps an exported graph open for any number of tokens.
    """
    if coords.shape[1] > _TOKENS_AT_ONCE:
        pieces = zip(coords.split(_TOKENS_AT_ONCE, dim=1), codes.split(_TOKENS_AT_ONCE, dim=1), strict=True)
        foreground, background = _draw_clicks(*next(pieces), centre, radius)
        for piece in pieces:
            more_foreground, more_background = _draw_clicks(*piece, centre, radius)
            foreground = torch.maximum(foreground, more_foreground)
            background = torch.maximum(background, more_background)
        return [foreground, background]
    x, y = centre.view(1, 1, 1, -1), centre.view(1, 1, -1, 1)
    px, py = coords[..., 0, None, None], coords[..., 1, None, None]
    spots = torch.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * radius**2))
    return [(spots * (codes == code)[..., None, None]).amax(dim=1) for code in (FOREGROUND, BACKGROUND)]
