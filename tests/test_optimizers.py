"""What is trained, by which rule, and in which precision."""
import numpy as np
import pytest
import torch

from track4d_ref.optimizers import (OPTIMIZERS, PATCH_RATE, apply_gradients, loss_scale, make_optimizers, mixed, schedule,
                                    trainable)
from track4d_ref.presets import load_preset
from track4d_ref.storage import InputError
from track4d_ref.tokens import train_tokenizer
from track4d_ref.vlm import build_vlm

CPU = torch.device('cpu')
PRESET = load_preset('tiny', ('text_layers=1', 'text_width=48', 'text_heads=2', 'text_kv_heads=1', 'vision_layers=1', 'vision_width=32', 'vision_heads=2'))


def fresh(): return build_vlm(PRESET, train_tokenizer(['left right'] * 5, 300), seed=4)


def matrix(seed=0): return torch.nn.Parameter(torch.randn(130, 70, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize('kind', OPTIMIZERS)
def test_every_parameter_has_exactly_one_place(kind):
    if kind == 'adamw8bit': pytest.importorskip('bitsandbytes')
    named = trainable(fresh())
    groups = [group for optimizer in make_optimizers(named, kind, 1e-3, 0.0) for group in optimizer.param_groups]
    placed = [id(p) for group in groups for p in group['params']]
    assert sorted(placed) == sorted(id(p) for _, p in named) and all(group['initial_lr'] == group['lr'] for group in groups)


def test_muon_takes_the_matrices_of_layers_only():
    model = fresh()
    adamw, muon = make_optimizers(trainable(model), 'muon', 1e-3, 0.1)
    inside = {id(p) for p in muon.param_groups[0]['params']}
    assert all(p.ndim == 2 for p in muon.param_groups[0]['params']) and muon.param_groups[0]['lr'] == 1e-2
    assert id(model.lm_head.weight) not in inside and id(model.model.visual.patch_embed.proj.weight) not in inside
    patches = next(group for group in adamw.param_groups if any(p is model.model.visual.patch_embed.proj.weight for p in group['params']))
    assert patches['lr'] == PATCH_RATE * 1e-3 and patches['weight_decay'] == 0


@pytest.mark.parametrize('merger', [False, True])
def test_frozen_tower_costs_no_gradient(merger):
    model = fresh()
    names = {name for name, _ in trainable(model, freeze_vision=True, train_merger=merger)}
    assert {('visual' in name and 'merger' in name) for name in names if 'visual' in name} == ({True} if merger else set())
    assert len(trainable(model)) == len(list(model.parameters()))                  # and it can be thawed again


def test_eight_bits_follow_thirty_two():
    pytest.importorskip('bitsandbytes')
    ends = []
    for kind in ('adamw', 'adamw8bit'):
        weight, target = matrix(), matrix(1).detach()
        optimizers = make_optimizers([('w', weight)], kind, 1e-2, 0.0)
        for _ in range(200):
            (weight - target).square().mean().backward(); apply_gradients(optimizers, loss_scale('float32', CPU), 1e9, 1.0)
        ends.append(weight.detach())
    assert (ends[0] - ends[1]).abs().mean() < 0.05 * (matrix() - ends[0]).abs().mean()


def test_missing_bitsandbytes_and_unknown_names(monkeypatch):
    with pytest.raises(InputError, match='adamw, muon, adamw8bit'): make_optimizers([('w', matrix())], 'sgd', 1e-3, 0.0)
    with pytest.raises(InputError, match="precision 'fp8'"): mixed('fp8', CPU)
    monkeypatch.setitem(__import__('sys').modules, 'bitsandbytes.optim', None)
    with pytest.raises(InputError, match='pip install bitsandbytes'): make_optimizers([('w', matrix())], 'adamw8bit', 1e-3, 0.0)


def test_schedule_rises_and_falls():
    assert [schedule(x, 0.1) for x in (0, 0.05, 0.1)] == [0, 0.5, 1] and schedule(1.0, 0.1) < 1e-12 < schedule(0.99, 0.1)
    falling = [schedule(x, 0.1) for x in np.linspace(0.1, 1, 40)]
    assert falling == sorted(falling, reverse=True) and schedule(0.0, 0.0) == 1


@pytest.mark.parametrize('precision, dtype', [('float32', torch.float32), ('bfloat16', torch.bfloat16), ('float16', torch.float16)])
def test_matrices_are_multiplied_in_the_precision(precision, dtype):
    with mixed(precision, CPU): assert (torch.ones(2, 3) @ torch.ones(3, 2)).dtype == dtype
    assert loss_scale(precision, CPU).is_enabled() == (precision == 'float16')


def test_overflow_in_float16_leaves_the_step_out_and_halves_the_scale():
    weight, scale = matrix(), loss_scale('float16', CPU)
    optimizers, before, factor = make_optimizers([('w', weight)], 'adamw', 1e-2, 0.0), matrix(), scale.get_scale()
    scale.scale(weight.sum()).backward(); weight.grad[3, 4] = float('inf')
    apply_gradients(optimizers, scale, 1.0, 1.0)
    assert torch.equal(weight, before) and scale.get_scale() == factor / 2 and weight.grad is None
    scale.scale(weight.sum()).backward(); apply_gradients(optimizers, scale, 1.0, 1.0)
    assert not torch.equal(weight, before)


def test_gradient_is_clipped_and_its_norm_told():
    weight = torch.nn.Parameter(torch.zeros(3, 4)); sgd = torch.optim.SGD([weight], lr=1.0); sgd.param_groups[0]['initial_lr'] = 1.0
    weight.grad = torch.full((3, 4), 2.0)
    norm = apply_gradients([sgd], loss_scale('float32', CPU), 0.5, 0.1)
    assert abs(norm - 2 * 12 ** 0.5) < 1e-5 and abs(float(weight.detach().norm()) - 0.05) < 1e-6
