"""Prompts drawn as maps."""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bundle.families.family import build_network
from bundle.prompts.batch import PromptBatch
from bundle.prompts.raster import draw_prompts

PADDING, BACKGROUND, FOREGROUND, FIRST, SECOND = -1, 0, 1, 2, 3


def draw(*tokens: tuple[float, float, int]) -> torch.Tensor:
    coords = torch.tensor([[token[:2] for token in tokens]])
    codes = torch.tensor([[token[2] for token in tokens]])
    return draw_prompts(coords, codes, size=32, square=64)[0]


def test_clicks_are_spots_in_their_own_map():
    foreground, background, inside, dome = draw((20.5, 40.5, FOREGROUND), (50.5, 10.5, BACKGROUND))
    assert foreground.argmax() == 20 * 32 + 10 and background.argmax() == 5 * 32 + 25
    assert inside.abs().max() == 0 and dome.abs().max() == 0


def test_a_box_is_filled_and_its_dome_is_highest_in_the_middle():
    _, _, inside, dome = draw((10.0, 20.0, FIRST), (41.0, 51.0, SECOND))
    assert inside.sum() == 16 * 16 and inside[10, 5] == 1
    assert divmod(int(dome.argmax()), 32) in {(17, 12), (17, 13), (18, 12), (18, 13)} and dome[0, 0] == -1


def test_padding_draws_nothing():
    assert draw((5.0, 5.0, PADDING)).abs().max() == 0


def test_many_clicks_are_drawn_as_few_at_a_time_to_the_same_bits():
    generator = torch.Generator().manual_seed(0)
    coords, codes = torch.rand(2, 70, 2, generator=generator) * 64, torch.randint(-1, 2, (2, 70), generator=generator)
    whole = draw_prompts(coords, codes, size=32, square=64)
    one_by_one = [draw_prompts(coords[:, t : t + 1], codes[:, t : t + 1], size=32, square=64) for t in range(70)]
    assert torch.equal(whole, torch.stack(one_by_one).amax(dim=0))


def test_the_memory_of_drawing_does_not_grow_with_the_clicks():
    class Largest(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                self.elements = max(self.elements, result.numel())
            return result

    with Largest() as largest:
        draw_prompts(torch.rand(1, 2000, 2), torch.ones(1, 2000, dtype=torch.long), size=32, square=64)
    assert largest.elements <= 16 * 32 * 32


def test_an_object_changes_the_embedding_where_it_is_prompted():
    encoder = build_network("tiny_vit", random=True).prompt_encoder
    with torch.inference_mode():
        one, other = (
            encoder.embed_dense(None, 1, PromptBatch(boxes=torch.tensor([box])).tokens())
            for box in ([10.0, 10.0, 60.0, 60.0], [150.0, 150.0, 220.0, 220.0])
        )
    changed = (one - other).abs().amax(dim=1)[0] > 1e-4
    assert one.shape == (1, 256, 32, 32) and changed[2:7, 2:7].all() and changed[19:27, 19:27].all()


def test_an_object_without_a_prompt_gets_sams_own_dense_embedding():
    encoder = build_network("tiny_vit", random=True).prompt_encoder
    torch.testing.assert_close(encoder.embed_dense(None, 2, None), encoder.embed_masks(None, 2))
