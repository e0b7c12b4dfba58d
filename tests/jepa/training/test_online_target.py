import torch
from torch import nn

from jepa.models import VideoEncoder
from jepa.training.online_target import OnlineTarget


def make_encoder():
    torch.manual_seed(0)
    return VideoEncoder(
        image_size=16, clip_length_frames=2, patch_size=8, dim=24, depth=2, num_heads=2,
        levels=(0, 1),
    )  # fmt: skip


def test_it_is_the_encoder_itself_with_its_gradient():
    encoder, video = make_encoder(), torch.randn(1, 3, 2, 16, 16)
    target = OnlineTarget(encoder)
    tokens = target(video)
    assert torch.equal(tokens, encoder(video))
    assert torch.equal(target.levels(video), encoder.levels(video))
    tokens.sum().backward()
    assert encoder.patch_embed.weight.grad is not None


def test_a_module_that_holds_it_saves_and_counts_the_encoder_once():
    module = nn.Module()
    module.encoder = make_encoder()
    names = set(module.state_dict())
    module.target_encoder = OnlineTarget(module.encoder)
    assert set(module.state_dict()) == names


def test_an_update_changes_nothing():
    encoder = make_encoder()
    before = [parameter.clone() for parameter in encoder.parameters()]
    OnlineTarget(encoder).update(encoder, progress=0.5)
    assert all(map(torch.equal, before, encoder.parameters()))
