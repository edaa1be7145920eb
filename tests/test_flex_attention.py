"""FlexAttention reads packed rows as the dense mask does: the forward pass everywhere it compiles, gradients on a GPU."""
from unittest.mock import patch

import pytest
import torch
import transformers.integrations.flex_attention as library
from torch.nn.attention.flex_attention import flex_attention

from test_packing import ONE, TOKENIZER, TWO, loud
from track4d_ref.flex_attention import flex_attention_is_on, flex_mask, use_flex_attention
from track4d_ref.packing import attention_mask, collate, pack, packed_hidden, packed_loss


@pytest.mark.parametrize('segments', [[[0, 0, 0, 1, 1, 2, 2, 2, -1], [0, 0, 1, 1, 1, 1, 2, 3, 3]], [[0] * 130 + [1] * 70 + [2] * 56]])
def test_the_function_is_the_rule(segments):
    segments = torch.tensor(segments)
    rows, length = segments.shape
    mask, rule = flex_mask(segments), attention_mask(segments)[:, 0]
    asked = [[[bool(mask.mask_mod(torch.tensor(b), 0, torch.tensor(q), torch.tensor(k))) for k in range(0, length, 7)] for q in range(0, length, 5)] for b in range(rows)]
    assert torch.equal(torch.tensor(asked), rule[:, ::5, ::7])


def batch_of(model): return collate(model, [pack(model, TOKENIZER, clip) for clip in (ONE, TWO)], [ONE, TWO]).to(model.device)


def uncompiled(query, key, value, training=False, **options): return flex_attention(query, key, value, **options)


def test_hidden_states_equal_those_of_the_dense_mask():
    model = loud().to('cuda' if torch.cuda.is_available() else 'cpu')
    batch = batch_of(model)
    with torch.no_grad(), patch.object(library, 'compile_friendly_flex_attention', wraps=uncompiled) as called:
        usual = packed_hidden(model, batch)
        use_flex_attention(model)
        assert flex_attention_is_on(model) and not called.called
        flexible = packed_hidden(model, batch)
    real = batch.segments >= 0
    torch.testing.assert_close(flexible[real], usual[real], atol=1e-4, rtol=1e-4)
    assert called.call_count == model.config.text_config.num_hidden_layers


@pytest.mark.skipif(not torch.cuda.is_available(), reason='FlexAttention has no backward pass on a processor')
def test_gradients_equal_those_of_the_two_pieces_on_a_gpu():
    model = loud().cuda()
    gradients = []
    for _ in range(2):
        model.zero_grad(); packed_loss(model, batch_of(model)).backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})
        use_flex_attention(model)
    for name in gradients[0]: torch.testing.assert_close(gradients[0][name], gradients[1][name], atol=1e-4, rtol=1e-3)
