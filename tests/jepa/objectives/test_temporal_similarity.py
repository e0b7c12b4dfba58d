import pytest
import torch

from jepa.objectives import TemporalSimilarity


def test_the_value_worked_out_by_hand():
    one, two = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[5.0], [5.0], [5.0]])
    embeddings = torch.stack([one, two], dim=1)  # (time 3, batch 2, dim 1): changes 1, 2 and 0, 0
    terms = TemporalSimilarity(weight=4.0)(embeddings, step=0)
    assert terms.parts["temporal_similarity"].item() == (1 + 4) / 4
    assert terms.total.item() == 5.0


def test_frames_are_neighbours_in_time_and_not_in_the_batch():
    embeddings = torch.randn(1, 8, 4).expand(3, -1, -1)
    assert TemporalSimilarity()(embeddings, step=0).total == 0.0


def test_a_single_frame_has_no_neighbours():
    embeddings = torch.randn(1, 8, 4, requires_grad=True)
    loss = TemporalSimilarity()(embeddings, step=0).total
    loss.backward()
    assert loss == 0.0
    assert (embeddings.grad == 0).all()  # zero, not none: DDP waits for it


def test_embeddings_without_an_axis_of_time_are_refused():
    with pytest.raises(ValueError, match=r"needs embeddings \(time, batch, dim\), got \(8, 4\)"):
        TemporalSimilarity()(torch.zeros(8, 4), step=0)
