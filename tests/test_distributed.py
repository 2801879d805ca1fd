"""What processes share out."""

from __future__ import annotations

import pytest

from bundle.training.distributed import ProcessesError, share_of_batch


def test_every_process_takes_the_same_share_of_a_batch():
    assert share_of_batch(8, 4) == 2


@pytest.mark.parametrize(
    "batch_size, processes, possible", [(2, 4, "1 or 2"), (7, 2, "1 or 7"), (6, 4, "1 or 2 or 3 or 6")]
)
def test_a_batch_that_cannot_be_shared_out_is_refused(batch_size, processes, possible):
    with pytest.raises(
        ProcessesError, match=f"{batch_size} cannot be .* to {processes} processes; start {possible}, or"
    ):
        share_of_batch(batch_size, processes)
