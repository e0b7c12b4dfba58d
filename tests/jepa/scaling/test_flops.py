import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from jepa.masking import MultiBlock
from jepa.models import MaskedLatentPredictor, VideoEncoder
from jepa.scaling.flops import encoder_flops, predictor_flops, step_flops, transformer_flops
from jepa.training.dense_pretraining import DensePretraining
from jepa.training.pretraining import Pretraining
from jepa.training.regularized_pretraining import RegularizedPretraining

SIZE = (4, 32, 32)
GRID = (2, 4, 4)
MASKS = [MultiBlock(num_blocks=2, target_fraction=0.5), MultiBlock(target_fraction=0.75)]


def make_encoder(**options):
    return VideoEncoder(
        image_size=32, clip_length_frames=4, patch_size=8, dim=48, depth=3, num_heads=4, **options
    )


def make_predictor(**options):
    return MaskedLatentPredictor(encoder_dim=48, dim=24, depth=2, num_heads=2, **options)


def counted(work):
    # torch counts no fused attention on a CPU.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def test_a_block_worked_out_by_hand():
    transformer = make_encoder().transformer
    linear = 2 * 10 * 48 * 48 * (4 + 2 * 4)  # queries, keys, values, projection, MLP
    attention = 2 * (2 * 10 * 10 * 48)  # queries times keys, weights times values
    assert transformer_flops(transformer, 10) == 3 * (linear + attention)


def test_an_encoder_does_what_torch_counts():
    encoder, video = make_encoder(), torch.randn(1, 3, *SIZE)
    assert encoder_flops(encoder, 32) == counted(lambda: encoder(video))
    ids = torch.arange(9)[None]
    assert encoder_flops(encoder, 9) == counted(lambda: encoder(video, token_ids=ids))


def test_an_image_has_one_frame_to_embed():
    encoder, image = make_encoder(has_image_tokenizer=True), torch.randn(1, 3, 1, 32, 32)
    assert encoder_flops(encoder, 16, is_image=True) == counted(lambda: encoder(image))


@pytest.mark.parametrize("recipe", [Pretraining, DensePretraining, RegularizedPretraining])
def test_a_step_does_what_torch_counts_forward_and_backward(recipe):
    dense = recipe is DensePretraining
    encoder = make_encoder(levels=(0, 2) if dense else None)
    options = {"masks": MASKS}
    if recipe is RegularizedPretraining:
        options["embedding_dim"] = 8
    output_dim = options.get("embedding_dim")
    predictor = make_predictor(
        num_levels=2 if dense else 1, predicts_context=dense, output_dim=output_dim
    )
    module = recipe(encoder, predictor, **options)
    video = torch.randn(2, 3, *SIZE)

    def step():
        masks = module.sample_masks(video, step=0)
        predicted, target = module.predict(video, masks), module.target(video)
        module.compare(predicted, target, masks, grid=GRID).total.backward()

    flops = step_flops(module, SIZE, batch_size=2).total
    assert flops == pytest.approx(counted(step), rel=0.03)  # projectors, pruned last queries


def test_the_cost_is_linear_in_the_batch_and_less_with_more_hidden():
    def cost(fraction, batch):
        masks = [MultiBlock(target_fraction=fraction)]
        module = Pretraining(make_encoder(), make_predictor(), masks=masks)
        return step_flops(module, SIZE, batch_size=batch)

    assert cost(0.5, 6).total == 3 * cost(0.5, 2).total
    assert cost(0.75, 2).context < cost(0.5, 2).context
    assert cost(0.75, 2).target == cost(0.5, 2).target


def test_a_predictor_that_predicts_the_context_costs_its_projection_more():
    plain = predictor_flops(make_predictor(), context=8, targets=24)
    dense = predictor_flops(make_predictor(predicts_context=True), context=8, targets=24)
    assert dense - plain == 2 * 8 * 24 * 48
