"""LoRA and NF4 by hand equal the libraries; adapters on our model are exact no-ops, learn, and come back from their folder."""
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from track4d_ref.adapters import (AdapterPlan, adapter_plan, add_adapter, base_fingerprint, load_adapter, load_model, merge_adapter,
                                  quantize_linears, round_linears, save_adapter)
from track4d_ref.lora import LoraLinear, adapt_linears
from track4d_ref.nf4 import BLOCK, LEVELS, dequantize_nf4, nf4_bytes, quantize_nf4
from track4d_ref.packing import ClipExample, collate, pack, packed_hidden, packed_loss
from track4d_ref.patches import Video
from track4d_ref.presets import load_preset
from track4d_ref.storage import InputError
from track4d_ref.tokens import train_tokenizer
from track4d_ref.vlm import bare_model, build_vlm, load_vlm, save_vlm

peft, bnb = pytest.importorskip('peft'), pytest.importorskip('bitsandbytes')
PRESET = load_preset('tiny', ('text_layers=2', 'text_width=96', 'text_heads=3', 'text_kv_heads=1', 'vision_layers=1', 'vision_width=48', 'vision_heads=2'))
TOKENIZER = train_tokenizer(['Which way does it go? left right', 'Yes No [TRK]'] * 5, 300)
TOKENIZER.add_tokens(['[TRK]'])
WORD = TOKENIZER.convert_tokens_to_ids('[TRK]')
PLAN = AdapterPlan(rank=3, alpha=7, new_tokens=(WORD,))


def talk(question, answer): return ({'role': 'user', 'content': question}, {'role': 'assistant', 'content': answer})


def film(name, *shape): return Video(name, np.random.default_rng(len(name)).integers(0, 255, (*shape, 3), dtype=np.uint8), 0.3)


EXAMPLES = [ClipExample('one', (film('one', 4, 56, 84),), (talk('Which way?', 'left'), talk('Does it go?', 'No'), talk('Where?', '[TRK]'))),
            ClipExample('three', (film('three', 2, 28, 56),), (talk('Which way does it go?', 'right'),))]


def fresh(seed=0):
    model = build_vlm(PRESET, TOKENIZER, seed)
    with torch.no_grad(): model.get_input_embeddings().weight.mul_(3)
    return model


def batch_of(model): return collate(model, [pack(model, TOKENIZER, clip) for clip in EXAMPLES], EXAMPLES)


@torch.no_grad()
def logits(model): return bare_model(model).lm_head(packed_hidden(model.eval(), batch_of(model)))


def learn(model, steps=15):
    model.train(); learned = [p for p in model.parameters() if p.requires_grad]
    optimizer, losses, largest = torch.optim.AdamW(learned, lr=1e-2, weight_decay=0), [], [0.0] * len(learned)
    for _ in range(steps):
        loss = packed_loss(model, batch_of(model)); loss.backward(); losses.append(loss.item())
        largest = [max(old, float(p.grad.abs().max())) for old, p in zip(largest, learned)]
        optimizer.step(); optimizer.zero_grad()
    return losses, largest


# --- LoRA by hand -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('rank, alpha', [(1, 1), (4, 9)])
def test_lora_equals_peft(bias, rank, alpha):
    def base(): torch.manual_seed(2); return nn.Sequential(nn.Linear(11, 7, bias)).double()
    mine, its = base(), peft.get_peft_model(base(), peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=['0'])).double()
    assert adapt_linears(mine, lambda name: True, rank, alpha) == ['0']
    mine.double(); layer, other = mine[0], its.base_model.model[0]
    with torch.no_grad():
        layer.b.normal_(generator=torch.Generator().manual_seed(1))
        other.lora_A.default.weight.copy_(layer.a); other.lora_B.default.weight.copy_(layer.b)
    x = torch.randn(5, 3, 11, dtype=torch.float64)
    for model in (mine, its): model(x).pow(3).sum().backward()
    torch.testing.assert_close(mine(x), its(x)); torch.testing.assert_close(layer.a.grad, other.lora_A.default.weight.grad)
    torch.testing.assert_close(layer.b.grad, other.lora_B.default.weight.grad)
    torch.testing.assert_close(layer.merged().weight, its.merge_and_unload()[0].weight)
    assert layer.base.weight.grad is None


def test_lora_layer_starts_as_nothing_and_passes_gradcheck():
    layer = LoraLinear(nn.Linear(6, 5), 2, 3.0, generator=torch.Generator().manual_seed(0)).double()
    x = torch.randn(2, 4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.equal(layer(x), layer.base(x))
    with torch.no_grad(): layer.b.normal_()
    assert torch.autograd.gradcheck(layer, (x,))


# --- NF4 by hand --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('shape', [(64,), (3, 64), (13, 7), (65, 129), (300, 512)])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_nf4_equals_bitsandbytes(shape, dtype):
    weight = (torch.randn(*shape, generator=torch.Generator().manual_seed(5)) * 0.03).to(dtype)
    mine, (codes, state) = quantize_nf4(weight), bnb.functional.quantize_4bit(weight, quant_type='nf4', compress_statistics=True)
    assert torch.equal(mine.codes, codes.flatten())
    if len(mine.scale_codes) > 1: assert (mine.scale_codes.int() - state.absmax.int()).abs().max() <= 1   # of one scale only the mean counts
    same = replace(mine, scale_codes=state.absmax, outer=state.state2.absmax, mean=state.offset)
    torch.testing.assert_close(dequantize_nf4(same), bnb.functional.dequantize_4bit(codes, state).reshape(shape), rtol=0, atol=0)


def test_nf4_keeps_zero_and_the_largest_without_rounded_scales():
    weight = torch.zeros(2, BLOCK); weight[0, 5], weight[1, 6] = 0.25, -0.25
    back = dequantize_nf4(quantize_nf4(weight))
    torch.testing.assert_close(back, weight); assert (back == 0).sum() == 2 * BLOCK - 2 and LEVELS[7] == 0


@pytest.mark.parametrize('count', [1, 63, 64, 65, 16384, 16385, 99999])
def test_nf4_bytes_are_the_tensors(count):
    packed = quantize_nf4(torch.randn(count))
    assert packed.bytes == nf4_bytes(count) == sum(t.numel() * t.element_size() for t in (packed.codes, packed.scale_codes, packed.outer, packed.mean))


# --- on the model -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('quantize', ['none', 'nf4'])
def test_no_op_learns_and_frozen_weights_stay(quantize):
    base = fresh()
    if quantize == 'nf4': quantize_linears(base.model.language_model.layers, torch.float32)
    model = add_adapter(fresh(), replace(PLAN, quantize=quantize))
    assert torch.equal(logits(model), logits(base))
    bare_model(model).gradient_checkpointing_enable(gradient_checkpointing_kwargs=dict(use_reentrant=False))
    frozen = {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}
    losses, largest = learn(model)
    assert losses[-1] < 0.7 * losses[0] and min(largest) > 0
    assert all(torch.equal(p, frozen[name]) for name, p in model.named_parameters() if name in frozen)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 96 + sum(
        3 * (m.in_features + m.out_features) for m in fresh().model.language_model.layers.modules() if isinstance(m, nn.Linear))
    table = bare_model(model).get_input_embeddings()(torch.arange(len(TOKENIZER)))
    moved = (table != fresh().get_input_embeddings().weight).any(1)
    assert moved.nonzero().flatten().tolist() == [WORD]


@pytest.mark.parametrize('quantize', ['none', 'nf4'])
def test_folder_comes_back_merges_and_refuses_another_base(tmp_path, quantize):
    save_vlm(fresh(), TOKENIZER, tmp_path / 'base'); save_vlm(fresh(1), TOKENIZER, tmp_path / 'other')
    model, head, again = add_adapter(fresh(), replace(PLAN, quantize=quantize)), nn.Linear(3, 2), nn.Linear(3, 2)
    learn(model, 4)
    save_adapter(tmp_path / 'adapter', model, TOKENIZER, '../base', dict(decoder=head))
    loaded, _ = load_adapter(tmp_path / 'adapter', heads=dict(decoder=again))
    assert torch.equal(logits(loaded), logits(model)) and torch.equal(again.weight, head.weight)
    assert torch.equal(logits(load_model(tmp_path / 'adapter')[0]), logits(model))
    merge_adapter(tmp_path / 'adapter', tmp_path / 'merged')
    torch.testing.assert_close(logits(load_vlm(tmp_path / 'merged')[0]), logits(model), atol=1e-3, rtol=1e-3)
    with pytest.raises(InputError, match='other weights'): load_adapter(tmp_path / 'adapter', tmp_path / 'other')
    with pytest.raises(InputError, match='no head'): load_adapter(tmp_path / 'adapter', heads=dict(trk=head))
    with pytest.raises(InputError, match='adapter.json'): load_adapter(tmp_path / 'base')
    assert not [p for p in tmp_path.rglob('*') if p.suffix in ('.bin', '.pt', '.pkl') or 'partial' in p.name]


def test_a_base_from_the_hub_keeps_its_name(tmp_path, monkeypatch):
    "Trained on 'Owner/model', an adapter asks for 'Owner/model' again, not for a folder of that name here."
    import track4d_ref.adapters as adapters
    from track4d_ref.training import prepare
    monkeypatch.chdir(tmp_path)
    model, _, save = prepare(fresh(), TOKENIZER, replace(PRESET, lora_rank=3), tmp_path, 'Owner/model')
    save(); asked = []
    monkeypatch.setattr(adapters, 'load_vlm', lambda place, dtype: asked.append(place) or (fresh(), TOKENIZER))
    loaded, _ = load_adapter(tmp_path / 'adapter')
    assert asked == ['Owner/model'] and torch.equal(logits(loaded), logits(model))


def test_loaded_adapter_learns_on(tmp_path):
    save_vlm(fresh(), TOKENIZER, tmp_path / 'base'); model = add_adapter(fresh(), PLAN); before, _ = learn(model, 5)
    save_adapter(tmp_path / 'a', model, TOKENIZER, '../base')
    after, largest = learn(load_adapter(tmp_path / 'a', learn=True)[0], 3)
    assert after[0] < before[-1] + 1e-3 and min(largest) > 0


def test_rounding_equals_what_the_four_bit_layer_computes():
    linear, x = nn.Linear(64, 48), torch.randn(5, 64)
    holder = nn.Sequential(nn.Linear(64, 48)); holder.load_state_dict({f'0.{k}': v for k, v in linear.state_dict().items()})
    rounded = nn.Sequential(linear); round_linears(rounded); assert quantize_linears(holder, torch.float32) == 1
    torch.testing.assert_close(rounded(x), holder(x)); assert not holder[0].weight.requires_grad


def test_plans_fingerprints_and_presets():
    assert base_fingerprint(fresh()) == base_fingerprint(fresh()) != base_fingerprint(fresh(1))
    assert adapter_plan(PRESET) is None and adapter_plan(load_preset('tiny', ('lora_rank=2', 'lora_targets=attention'))).targets == ('q_proj', 'k_proj', 'v_proj', 'o_proj')
    for wrong, match in (('quantize=nf4', 'lora_rank'), ('lora_targets=some', 'attention or all'), ('lora_rank=-1', 'lora_rank'), ('quantize=int3', 'nf4')):
        with pytest.raises(InputError, match=match): load_preset('tiny', (wrong,))


@pytest.mark.parametrize('quantize', ['none', 'nf4'])
def test_packed_equals_separate_under_adapters(quantize):
    from track4d_ref.vlm import model_inputs
    model = add_adapter(fresh(), replace(PLAN, quantize=quantize)).train()
    learn(model, 3); model.zero_grad()
    loss = packed_loss(model, batch_of(model)); loss.backward()
    together = {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}
    model.zero_grad(); total = 0.0
    for clip in EXAMPLES:
        for dialogue in clip.dialogues:
            inputs = model_inputs(model, TOKENIZER, [(clip.videos, dialogue)]); labels = inputs.pop('labels')
            one = nn.functional.cross_entropy(model(**inputs).logits[0, :-1], labels[0, 1:]); one.backward(); total += one.item()
    assert abs(total - loss.item()) < 1e-4
    for name, p in model.named_parameters():
        if p.requires_grad: torch.testing.assert_close(p.grad, together[name], atol=2e-5, rtol=2e-3)
