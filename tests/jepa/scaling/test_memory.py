import pytest
import torch

from jepa.masking import MultiBlock
from jepa.models import MaskedLatentPredictor, VideoEncoder
from jepa.scaling.memory import count_parameters, step_memory
from jepa.training.pretraining import Pretraining
from jepa.training.regularized_pretraining import RegularizedPretraining

SIZE = (8, 96, 96)


def make(recipe=Pretraining):
    torch.manual_seed(0)
    output_dim = 64 if recipe is RegularizedPretraining else None
    return recipe(
        VideoEncoder(
            image_size=96, clip_length_frames=8, patch_size=16, dim=96, depth=6, num_heads=2
        ),
        MaskedLatentPredictor(encoder_dim=96, dim=48, depth=4, num_heads=2, output_dim=output_dim),
        masks=[MultiBlock(target_fraction=0.5), MultiBlock(num_blocks=2, target_fraction=0.8)],
    )


def kept_by_autograd(module):
    """Bytes of all storages that a real step keeps for its backward pass, less parameters."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    kept = {}

    def remember(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    video = torch.randn(2, 3, *SIZE)
    masks = module.sample_masks(video, step=0)
    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        target, predicted = module.target(video), module.predict(video, masks)
        loss = module.compare(predicted, target, masks, grid=(4, 6, 6))
    assert loss.total.requires_grad
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize("recipe", [Pretraining, RegularizedPretraining])
def test_activations_are_about_what_autograd_keeps(recipe):
    module = make(recipe)
    estimate = step_memory(module, SIZE, batch_size=2).activations
    # Kernels of a CPU keep more than the fused ones of a GPU, which are counted.
    assert 0.7 * kept_by_autograd(module) < estimate < 1.2 * kept_by_autograd(module)


def test_weights_gradients_and_moments_are_counted_by_hand():
    module = make()
    memory = step_memory(module, SIZE, batch_size=2)
    trained = count_parameters(module.encoder) + count_parameters(module.predictor)
    assert memory.weights == memory.gradients == 4 * trained
    assert memory.optimizer == 8 * trained
    assert memory.target == 4 * count_parameters(module.encoder)
    assert memory.total == sum(memory)


def test_without_a_teacher_there_is_no_second_encoder():
    assert step_memory(make(RegularizedPretraining), SIZE, batch_size=2).target == 0


def test_shards_divide_all_but_the_activations():
    one, four = (step_memory(make(), SIZE, batch_size=2, num_shards=n) for n in (1, 4))
    assert four.activations == one.activations
    assert four.optimizer == pytest.approx(one.optimizer / 4, abs=8)
    assert four.target == pytest.approx(one.target / 4, abs=4)


def test_half_the_bytes_in_bfloat16_and_far_less_with_checkpoints():
    full = step_memory(make(), SIZE, batch_size=2).activations
    half = step_memory(make(), SIZE, batch_size=2, dtype=torch.bfloat16).activations
    again = step_memory(make(), SIZE, batch_size=2, checkpoints_activations=True).activations
    assert half == full / 2
    assert again < 0.4 * full
