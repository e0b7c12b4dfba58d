import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from jepa.checkpoints.native import save_encoder
from jepa.masking import MultiBlock
from jepa.models import MaskedLatentPredictor, VideoEncoder
from jepa.models.transformer import Transformer
from jepa.scaling.memory import count_parameters, kept_bytes_of_a_block, step_memory
from jepa.training.dense_pretraining import DensePretraining
from jepa.training.distillation import Distillation
from jepa.training.pretraining import Pretraining
from jepa.training.regularized_pretraining import RegularizedPretraining

SIZE = (8, 96, 96)


def make(recipe=Pretraining):
    torch.manual_seed(0)
    is_dense = recipe is DensePretraining
    output_dim = 64 if recipe is RegularizedPretraining else None
    return recipe(
        VideoEncoder(
            image_size=96, clip_length_frames=8, patch_size=16, dim=96, depth=6, num_heads=2,
            levels=[2, 5] if is_dense else None,
        ),
        MaskedLatentPredictor(
            encoder_dim=96, dim=48, depth=4, num_heads=2, output_dim=output_dim,
            num_levels=2 if is_dense else 1, predicts_context=is_dense,
        ),
        masks=[MultiBlock(target_fraction=0.5), MultiBlock(num_blocks=2, target_fraction=0.8)],
    )  # fmt: skip


def kept_by_autograd(module, *, in_bfloat16=False):
    """Bytes of all storages that a real step keeps for its backward pass, less parameters.

    As on a GPU: somebody watches the operations, so that torch's own kernels run in the place of
    those written for a CPU; and autocast runs norms in float32, which on a CPU it does not.
    """
    parameters = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    kept, hooks = {}, []

    def remember(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    for norm in (part for part in module.modules() if isinstance(part, torch.nn.LayerNorm)):
        hooks.append(norm.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),)))
    video = torch.randn(2, 3, *SIZE)
    masks = module.sample_masks(video, step=0)
    with (
        FlopCounterMode(display=False),
        torch.autocast("cpu", torch.bfloat16, enabled=in_bfloat16),
        torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor),
    ):
        target, predicted = module.target(video), module.predict(video, masks)
        loss = module.compare(predicted, target, masks, grid=(4, 6, 6))
    assert loss.total.requires_grad
    for hook in hooks:
        hook.remove()
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("recipe", [Pretraining, DensePretraining, RegularizedPretraining])
def test_what_is_kept_is_about_what_autograd_keeps(recipe, dtype):
    module = make(recipe)
    memory = step_memory(module, SIZE, batch_size=2, dtype=dtype)
    kept = kept_by_autograd(module, in_bfloat16=dtype == torch.bfloat16)
    # A regularizer's statistics are not counted.
    tolerance = 0.25 if recipe is RegularizedPretraining else 0.07
    assert memory.activations + memory.copies == pytest.approx(kept, rel=tolerance)


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


def test_shards_divide_all_but_the_activations_and_the_copies_of_weights():
    one, four = (
        step_memory(make(), SIZE, batch_size=2, dtype=torch.bfloat16, num_shards=n) for n in (1, 4)
    )
    assert four.activations == one.activations
    assert four.copies == one.copies == one.weights / 2  # 2 bytes of each
    assert four.optimizer == pytest.approx(one.optimizer / 4, abs=8)
    assert four.target == pytest.approx(one.target / 4, abs=4)


def test_a_teacher_from_outside_is_whole_on_every_device_beside_the_students_average(tmp_path):
    teacher = VideoEncoder(image_size=96, clip_length_frames=8, dim=192, depth=3, num_heads=4)
    save_encoder(teacher, tmp_path / "teacher")
    student = VideoEncoder(image_size=96, clip_length_frames=8, dim=96, depth=2, num_heads=2)
    predictor = MaskedLatentPredictor(encoder_dim=96, dim=48, depth=1, num_heads=2, output_dim=192)
    module = Distillation(student, predictor, teacher=str(tmp_path / "teacher"))
    for shards in (1, 4):
        target = step_memory(module, SIZE, batch_size=2, num_shards=shards).target
        average = 4 * count_parameters(student) / shards
        assert target == pytest.approx(4 * count_parameters(teacher) + average, abs=4)


def test_half_the_precision_is_more_than_half_the_memory_because_norms_keep_float32():
    full = step_memory(make(), SIZE, batch_size=2)
    half = step_memory(make(), SIZE, batch_size=2, dtype=torch.bfloat16)
    assert 0.5 * full.activations < half.activations < 0.7 * full.activations
    assert (full.copies, half.weights) == (0, full.weights)


@pytest.mark.parametrize(
    ("dtype", "by_hand"), [(torch.float32, 2 * 4 + 16 * 4), (torch.bfloat16, 2 * 4 + 16 * 2)]
)
def test_a_block_is_counted_by_hand(dtype, by_hand):
    block = Transformer(96, depth=1, num_heads=2).blocks[0]
    rotations = 2 * 48 * 2 if dtype == torch.bfloat16 else 0  # two of a head's width, in 2 bytes
    assert kept_bytes_of_a_block(block, 10, dtype) == 10 * (96 * by_hand + rotations)


def test_checkpointed_blocks_keep_their_inputs_and_one_block_all():
    full = step_memory(make(), SIZE, batch_size=2).activations
    again = step_memory(make(), SIZE, batch_size=2, checkpoints_activations=True).activations
    assert again < 0.4 * full
