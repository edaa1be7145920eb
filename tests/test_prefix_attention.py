"""Two dense pieces equal the masked square, in value and gradient, for any packed rows."""
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from track4d_ref.prefix_attention import NAME, prefix_attention_forward, shared_prefix, use_prefix_attention
from track4d_ref.presets import load_preset
from track4d_ref.tokens import train_tokenizer
from track4d_ref.vlm import build_vlm


def square(segments):
    order = torch.arange(segments.shape[1])
    return (((segments[:, None, :] == 0) | (segments[:, None, :] == segments[:, :, None])) & (order[None, :] <= order[:, None]))[:, None]


def padded(rows):
    longest = max(map(len, rows))
    return torch.tensor([row + [-1] * (longest - len(row)) for row in rows])


row = st.builds(lambda prefix, parts: [0] * prefix + [n for n, size in enumerate(parts, 1) for _ in range(size)],
                st.integers(1, 5), st.lists(st.integers(1, 4), max_size=4))


@given(st.lists(row, min_size=1, max_size=3), st.sampled_from([(4, 4), (6, 2), (3, 1)]))
@settings(max_examples=50, deadline=None)
def test_equals_the_dense_mask(rows, heads):
    segments, generator = padded(rows), torch.Generator().manual_seed(0)
    make = lambda count: torch.randn(len(rows), count, segments.shape[1], 8, generator=generator, dtype=torch.float64, requires_grad=True)
    query, key, value = make(heads[0]), make(heads[1]), make(heads[1])
    groups, real = heads[0] // heads[1], segments >= 0
    ours = prefix_attention_forward(None, query, key, value, shared_prefix(segments), scaling=0.3)[0]
    dense = scaled_dot_product_attention(query, key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1),
                                         attn_mask=square(segments), scale=0.3).transpose(1, 2)
    assert torch.allclose(ours[real], dense[real], atol=1e-12) and not ours[~real].any()
    weights = torch.randn(ours.shape, generator=generator, dtype=torch.float64) * real[..., None, None]
    for a, b in zip(*(torch.autograd.grad((out * weights).sum(), (query, key, value)) for out in (ours, dense))): assert torch.allclose(a, b, atol=1e-11)


def test_dense_masks_go_to_the_library():
    tokenizer = train_tokenizer(['a b c'] * 3, 290)
    model = build_vlm(load_preset('tiny', ('text_layers=1', 'text_width=48', 'text_heads=2', 'text_kv_heads=1')), tokenizer)
    ids = torch.arange(20, 33)[None]
    with torch.no_grad(): before = model(input_ids=ids).logits
    assert use_prefix_attention(model) and model.model.language_model.config._attn_implementation == NAME
    with torch.no_grad(): assert torch.equal(model(input_ids=ids).logits, before)


@pytest.mark.parametrize('implementation', ['eager', 'flash_attention_2'])
def test_other_attentions_are_left_alone(implementation):
    tokenizer = train_tokenizer(['a b c'] * 3, 290)
    model = build_vlm(load_preset('tiny', ('text_layers=1', 'text_width=48', 'text_heads=2', 'text_kv_heads=1')), tokenizer)
    model.model.language_model.config._attn_implementation_internal = implementation
    assert not use_prefix_attention(model) and model.model.language_model.config._attn_implementation == implementation
