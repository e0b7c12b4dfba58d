import pytest
import torch


@pytest.mark.slow
def test_sigterm_to_one_rank_ends_both_after_the_same_step_with_a_checkpoint(two_ranks):
    """With Lightning's own handler both would wait for ever."""
    for found in two_ranks("terminated"):
        assert found == {"ended_by": "SIGTERMException", "steps": 3}
    saved = torch.load(two_ranks.folder / "terminated" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 3
