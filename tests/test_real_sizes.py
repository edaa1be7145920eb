"""The real sizes: counted exactly, and packing stays exact where matrices are as wide as the 3B model's. Figures are printed."""
from contextlib import ExitStack
from unittest.mock import patch

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as library

from test_packing import ONE, TOKENIZER, TWO, own_precision, own_rotation
from track4d_ref.packing import collate, pack, packed_loss
from track4d_ref.real_sizes import PUBLISHED_WEIGHTS, TEXT, meta_model, real_config, slice_model, weights_by_part
from track4d_ref.storage import InputError
from track4d_ref.vlm import bare_model, model_inputs

CLIPS = [ONE, TWO]           # three videos of 6, 4 and 2 frames, none square, five dialogues


@pytest.mark.parametrize('size', list(TEXT))
def test_weights_are_those_of_the_checkpoints(size):
    model = meta_model(real_config(size))
    assert sum(weights_by_part(model).values()) == PUBLISHED_WEIGHTS[size]
    assert all(weight.is_meta for weight in model.parameters())


def test_unknown_size_is_named():
    with pytest.raises(InputError, match="'13B' is not known; use 3B or 7B"): real_config('13B')


def test_a_slice_has_the_matrices_of_the_whole():
    whole = dict(meta_model(real_config('3B')).named_parameters())
    with torch.device('meta'): part = library.Qwen2_5_VLForConditionalGeneration(real_config('3B', 2, 2, TOKENIZER))
    for name, weight in part.named_parameters():
        if 'embed_tokens' not in name and 'lm_head' not in name: assert weight.shape == whole[name].shape
    assert part.config.video_token_id == TOKENIZER.convert_tokens_to_ids('<|video_pad|>') and part.config.text_config.num_hidden_layers == 2


def learned(model): return {name: p for name, p in model.named_parameters() if p.requires_grad}


def taken(model):
    "The gradients, moved out of the model."
    found = {name: p.grad for name, p in learned(model).items()}
    model.zero_grad(set_to_none=True)
    return found


def separate(model):
    total = 0.0
    for clip in CLIPS:
        for dialogue in clip.dialogues:
            inputs = model_inputs(model, TOKENIZER, [(clip.videos, dialogue)])
            inputs['pixel_values_videos'] = inputs['pixel_values_videos'].to(bare_model(model).dtype)
            labels = inputs.pop('labels')
            loss = cross_entropy(model(**inputs).logits[0, :-1], labels[0, 1:])
            loss.backward(); total += loss.item()
    return total, taken(model)


def packed(model):
    loss = packed_loss(model, collate(model, [pack(model, TOKENIZER, clip) for clip in CLIPS], CLIPS))
    loss.backward()
    return loss.item(), taken(model)


def adapted(model, quantize):
    "Adapters with random corrections, so that both of their halves have a gradient."
    pytest.importorskip('peft'); pytest.importorskip('bitsandbytes')
    from track4d_ref.adapters import AdapterPlan, add_adapter
    dtype, model = model.dtype, add_adapter(model, AdapterPlan(rank=3, alpha=7, quantize=quantize, new_tokens=(5,)))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in learned(model).items():
            p.data = p.data.to(dtype)
            if 'lora_B' in name: p.copy_(0.01 * torch.randn(p.shape, generator=generator))
    return model


@pytest.mark.slow
@pytest.mark.parametrize('kind, dtype, limit', [('plain', torch.float64, 1e-12), ('plain', torch.float32, 1e-5),
                                                ('lora', torch.float64, 1e-12), ('nf4', torch.float32, 1e-5)])
def test_packed_equals_separate_at_the_width_of_the_3b(kind, dtype, limit, capsys):
    model = slice_model('3B', TOKENIZER, 2, 2, seed=2, dtype=dtype)
    if kind != 'plain': model = adapted(model, 'nf4' if kind == 'nf4' else 'none')
    with ExitStack() as exact:
        if dtype == torch.float64:                         # the library computes these two in float32 whatever it is given
            exact.enter_context(patch.object(library.Qwen2_5_VLRMSNorm, 'forward', own_precision))
            exact.enter_context(patch.object(library, 'apply_rotary_pos_emb_vision', own_rotation))
        (loss_a, grad_a), (loss_b, grad_b) = separate(model), packed(model)
    apart = {name: float((grad_a[name] - grad_b[name]).abs().max()) for name in grad_a}
    size = {name: float(gradient.abs().max()) for name, gradient in grad_a.items()}
    worst = max(apart, key=apart.get)
    with capsys.disabled():
        print(f'\n{kind} {str(dtype)[6:]}: loss {loss_a:.6f}, difference {abs(loss_a - loss_b):.1e}; largest difference of a gradient '
              f'{apart[worst]:.1e} where the largest entry is {size[worst]:.1e} ({worst}), {len(apart)} tensors')
    assert abs(loss_a - loss_b) < limit * loss_a and grad_a.keys() == grad_b.keys() == apart.keys()
    assert all(apart[name] < limit * max(size.values()) for name in apart)
    assert all(size[name] > 0 for name in size if not name.endswith('k_proj.bias'))
