"""Training: equal gradients for any accumulation, exact resume, frozen means frozen, and refusals before work is lost."""
import re
import sys
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import torch

from track4d_ref import sft
from track4d_ref.packing import ClipExample
from track4d_ref.patches import Video
from track4d_ref.presets import load_preset
from track4d_ref.processes import Processes
from track4d_ref.sft import (LOG_FIELDS, BatchOrder, ClipFeeder, TrainPlan, gradient_of_step, live_log, loss_scale, plan_from_preset,
                             train, train_step, trainable, write_log)
from track4d_ref.storage import InputError
from track4d_ref.tokens import train_tokenizer
from track4d_ref.vlm import build_vlm

PRESET = load_preset('tiny', ('text_layers=1', 'text_width=48', 'text_heads=2', 'text_kv_heads=1', 'vision_layers=1', 'vision_width=32', 'vision_heads=2'))
TOKENIZER = train_tokenizer(['Which way does it go? left right', 'Yes No'] * 5, 300)


def example(seed):
    rng = np.random.default_rng(seed)
    bright = int(rng.integers(2))
    frames = rng.integers(0, 40, (2, 28, 56, 3)) + 180 * bright
    talk = lambda question, answer: ({'role': 'user', 'content': question}, {'role': 'assistant', 'content': answer})
    talks = (talk('Which way does it go?', ('left', 'right')[bright]), talk('Is it right?', ('No', 'Yes')[bright]), talk('Is it left?', ('Yes', 'No')[bright]))
    return ClipExample(f'clip {seed}', (Video(f'clip {seed}', frames.astype(np.uint8), 0.5),), talks[:1 + seed % 3])


EXAMPLES = [example(seed) for seed in range(23)]


def fresh(): return build_vlm(PRESET, TOKENIZER, seed=4)


def same(a, b): return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters()))


def test_it_learns():
    state = train(fresh(), TOKENIZER, EXAMPLES, TrainPlan(steps=60, batch_clips=8, learning_rate=1e-2), progress=False)
    losses = [row['loss'] for row in state.rows]
    assert np.mean(losses[-5:]) < 0.4 * losses[0] and [row['step'] for row in state.rows] == list(range(1, 61))


@pytest.mark.parametrize('parts', [2, 7])
def test_accumulation_does_not_change_the_gradient(parts):
    def one(accumulation):
        model = fresh(); feeder = ClipFeeder(model, TOKENIZER, EXAMPLES, 999, False)
        sgd = torch.optim.SGD([p for _, p in trainable(model)], lr=1.0); sgd.param_groups[0]['initial_lr'] = 1.0
        loss, norm = train_step(model, feeder, np.arange(7), [sgd], TrainPlan(accumulation=accumulation, clip=1e9), 1.0)
        assert norm > 0
        return loss, model
    (loss_a, a), (loss_b, b) = one(1), one(parts)
    assert abs(loss_a - loss_b) < 1e-5
    assert all(torch.allclose(x, y, atol=1e-5) for x, y in zip(a.parameters(), b.parameters()))


@pytest.mark.parametrize('count', [2, 5, 9])
def test_shares_of_processes_add_up(count):
    def gradient(processes):
        model = fresh(); feeder = ClipFeeder(model, TOKENIZER, EXAMPLES, 999, False)
        loss = gradient_of_step(model, feeder, np.arange(7), TrainPlan(accumulation=3), loss_scale('float32', model.device), processes)
        return loss, torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in model.parameters()])
    (whole_loss, whole), parts = gradient(Processes()), [gradient(Processes(number, count)) for number in range(count)]
    assert abs(sum(loss for loss, _ in parts) - whole_loss) < 1e-5
    torch.testing.assert_close(sum(part for _, part in parts), whole, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('optimizer, precision', [('adamw', 'bfloat16'), ('muon', 'bfloat16'), ('adamw8bit', 'float32'), ('adamw', 'float16')])
def test_it_learns_in_half_precision_and_with_eight_bits(optimizer, precision):
    if optimizer == 'adamw8bit': pytest.importorskip('bitsandbytes')
    plan = TrainPlan(steps=60, batch_clips=8, learning_rate=1e-2, optimizer=optimizer, precision=precision)
    model = fresh(); losses = [row['loss'] for row in train(model, TOKENIZER, EXAMPLES, plan, progress=False).rows]
    assert np.mean(losses[-5:]) < 0.5 * losses[0] and all(p.dtype == torch.float32 for p in model.parameters())


class Killed(Exception): pass


@pytest.mark.parametrize('kind, precision, frozen', [('adamw', 'float32', False), ('muon', 'float32', True), ('muon', 'bfloat16', False),
                                                     ('adamw', 'float16', True), ('adamw8bit', 'float32', True)])
def test_resume_is_exact(tmp_path, kind, precision, frozen):
    if kind == 'adamw8bit': pytest.importorskip('bitsandbytes')
    plan = TrainPlan(steps=9, batch_clips=5, save_every=2, optimizer=kind, precision=precision, freeze_vision=frozen, accumulation=2)
    whole = fresh(); train(whole, TOKENIZER, EXAMPLES, plan, progress=False)
    for stop in (*sorted(np.random.default_rng(3).choice(np.arange(1, 9), 3, replace=False).tolist()), None):
        def check(state):
            if state.step == stop: raise Killed
        broken = fresh()
        torch.rand(stop or 1)                                      # random numbers drawn elsewhere change nothing
        try: train(broken, TOKENIZER, EXAMPLES, plan, tmp_path, resume=True, progress=False, on_step=check)
        except Killed: assert not same(whole, broken)
    assert same(whole, broken)
    assert (tmp_path / 'log.csv').read_text().splitlines()[0] == 'step,loss,norm,rate,seconds,dialogues'
    assert len((tmp_path / 'log.csv').read_text().splitlines()) == 10


def test_dropout_is_resumed_too(tmp_path):
    def noisy():
        model = fresh()
        for module in model.modules():
            if hasattr(module, 'attention_dropout'): module.attention_dropout = 0.3
        return model
    plan = TrainPlan(steps=6, batch_clips=4, save_every=1)
    whole, calm, broken = noisy(), fresh(), noisy()
    train(whole, TOKENIZER, EXAMPLES, plan, progress=False); train(calm, TOKENIZER, EXAMPLES, plan, progress=False)
    def check(state):
        if state.step == 3: raise Killed
    with pytest.raises(Killed): train(broken, TOKENIZER, EXAMPLES, plan, tmp_path, resume=True, progress=False, on_step=check)
    torch.rand(7)
    train(broken := noisy(), TOKENIZER, EXAMPLES, plan, tmp_path, resume=True, progress=False)
    assert same(whole, broken) and not same(whole, calm)


def test_training_leaves_the_global_random_state_alone():
    torch.manual_seed(8); expected = torch.rand(2); torch.manual_seed(8)
    train(fresh(), TOKENIZER, EXAMPLES[:4], TrainPlan(steps=1), progress=False)
    assert torch.equal(torch.rand(2), expected)


def test_starting_anew_forgets_old_checkpoints(tmp_path):
    train(fresh(), TOKENIZER, EXAMPLES[:4], TrainPlan(steps=5), tmp_path, progress=False)
    train(fresh(), TOKENIZER, EXAMPLES[:4], TrainPlan(steps=2), tmp_path, progress=False)
    assert [path.name for path in (tmp_path / 'checkpoint').iterdir()] == ['step-00000002']
    state = train(fresh(), TOKENIZER, EXAMPLES[:4], TrainPlan(steps=2), tmp_path, resume=True, progress=False)
    assert state.step == 2                                           # finished: nothing is trained again


def test_resume_refuses_another_plan_or_model(tmp_path):
    train(fresh(), TOKENIZER, EXAMPLES[:4], TrainPlan(steps=2), tmp_path, progress=False)
    with pytest.raises(InputError, match='learning_rate'):
        train(fresh(), TOKENIZER, EXAMPLES[:4], TrainPlan(steps=2, learning_rate=5e-4), tmp_path, resume=True, progress=False)
    with pytest.raises(InputError, match='data'):
        train(fresh(), TOKENIZER, EXAMPLES[1:5], TrainPlan(steps=2), tmp_path, resume=True, progress=False)
    other = build_vlm(load_preset('tiny', ('text_layers=2', 'text_width=48', 'text_heads=2')), TOKENIZER)
    with pytest.raises(InputError, match='another model'):
        train(other, TOKENIZER, EXAMPLES[:4], TrainPlan(steps=2), tmp_path, resume=True, progress=False)


def test_frozen_tower_stays_and_matches_the_uncached_run():
    model, before = fresh(), fresh()
    train(model, TOKENIZER, EXAMPLES[:6], TrainPlan(steps=3, freeze_vision=True), progress=False)
    assert same(model.model.visual, before.model.visual) and not same(model.model.language_model, before.model.language_model)
    feeder = ClipFeeder(before, TOKENIZER, EXAMPLES[:2], 999, True)
    assert feeder.batch(np.arange(2)).pixels is None
    torch.testing.assert_close(feeder.feature(1), before.model.visual(
        *[ClipFeeder(before, TOKENIZER, EXAMPLES[1:2], 999, False).batch([0]).__dict__[k] for k in ('pixels', 'grids')]).pooler_output)


def test_merger_may_learn_while_the_tower_stays():
    kept, direct, before = fresh(), fresh(), fresh()
    plan = TrainPlan(steps=3, batch_clips=4, freeze_vision=True, train_merger=True, naming=0.5)
    named = [replace(example, caption=('left', 'right left')[i % 2]) for i, example in enumerate(EXAMPLES[:6])]
    train(kept, TOKENIZER, named, plan, progress=False)
    assert same(kept.model.visual.blocks, before.model.visual.blocks) and same(kept.model.visual.patch_embed, before.model.visual.patch_embed)
    assert not same(kept.model.visual.merger, before.model.visual.merger)
    with patch.object(sft.ClipFeeder, 'feature', None), patch.object(sft, 'ClipFeeder', lambda *a: ClipFeeder(*a[:4], False)):
        train(direct, TOKENIZER, named, plan, progress=False)                   # the same without keeping anything
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(kept.parameters(), direct.parameters()))


def test_naming_pulls_on_the_tower():
    named = [replace(example, caption='left', dialogues=example.dialogues[:1]) for example in EXAMPLES[:8]]
    with_name, without = fresh(), fresh()
    for model, weight in ((with_name, 1.0), (without, 0.0)): train(model, TOKENIZER, named, TrainPlan(steps=2, naming=weight), progress=False)
    assert not same(with_name.model.visual, without.model.visual)


def test_clock_ends_in_time_with_a_small_rate():
    state = train(fresh(), TOKENIZER, EXAMPLES, TrainPlan(seconds=1.0, batch_clips=2), progress=False)
    assert 1.0 <= state.elapsed_s < 5.0 and state.step > 1 and state.rows[-1]['rate'] < 2e-3


def test_two_runs_are_equal_and_another_seed_is_not():
    models = [fresh() for _ in range(3)]
    for model, seed in zip(models, (0, 0, 1)): train(model, TOKENIZER, EXAMPLES, TrainPlan(steps=3, batch_clips=4, seed=seed), progress=False)
    assert same(models[0], models[1]) and not same(models[0], models[2])


def test_mistakes_are_named():
    with pytest.raises(InputError, match='nothing to train'): train(fresh(), TOKENIZER, [], TrainPlan(), progress=False)
    with pytest.raises(InputError, match='sample clip 1'):
        train(fresh(), TOKENIZER, EXAMPLES[1:2], TrainPlan(), most_tokens=20, progress=False)
    with pytest.raises(InputError, match="optimizer 'sgd'"):
        train(fresh(), TOKENIZER, EXAMPLES[:2], TrainPlan(optimizer='sgd'), progress=False)
    with pytest.raises(InputError, match="precision 'int8'"):
        train(fresh(), TOKENIZER, EXAMPLES[:2], TrainPlan(precision='int8'), progress=False)
    with pytest.raises(InputError, match="logger 'paper'"):
        train(fresh(), TOKENIZER, EXAMPLES[:2], TrainPlan(), progress=False, logger='paper')


def test_loss_that_explodes_is_reported():
    model = fresh()
    with torch.no_grad(): model.lm_head.weight[0, 0] = float('nan')
    with pytest.raises(InputError, match='learning_rate'): train(model, TOKENIZER, EXAMPLES[:2], TrainPlan(steps=1), progress=False)


def test_plan_follows_the_preset():
    preset = load_preset('tiny')
    plan = plan_from_preset(preset, seconds=0, steps=7)
    assert plan.learning_rate == preset.learning_rate and plan.batch_clips == preset.batch_clips and plan.steps == 7 and plan.seconds == 0
    assert (plan.optimizer, plan.precision, plan.accumulation) == (preset.optimizer, preset.precision, preset.accumulation)


def test_order_covers_every_epoch_and_can_be_entered_anywhere():
    lengths = np.arange(10, 27)
    order = BatchOrder(lengths, 4, seed=2)
    epochs = [np.concatenate([order[step] for step in range(5 * e, 5 * e + 5)]) for e in (0, 1)]
    assert all(sorted(epoch.tolist()) == list(range(17)) for epoch in epochs) and epochs[0].tolist() != epochs[1].tolist()
    assert BatchOrder(lengths, 4, seed=2)[7].tolist() == order[7].tolist()


ROW = dict(zip(LOG_FIELDS, (1, 2.5, 0.7, 0.1, 0.2, 3)))


def test_bar_tells_the_time_left(capsys):
    train(fresh(), TOKENIZER, EXAMPLES, TrainPlan(steps=4, batch_clips=4), progress=True)
    shown = capsys.readouterr().err
    assert re.search(r'training: +100%.*4/4 \[\d\d:\d\d<\d\d:\d\d.*loss=\d', shown) and shown.count('training') >= 2
    train(fresh(), TOKENIZER, EXAMPLES, TrainPlan(steps=1, batch_clips=4), progress=False)
    assert 'training' not in capsys.readouterr().err


def test_log_is_csv(tmp_path):
    write_log(tmp_path / 'log.csv', [ROW])
    assert (tmp_path / 'log.csv').read_text().splitlines() == ['step,loss,norm,rate,seconds,dialogues', '1,2.5,0.7,0.1,0.2,3']
    assert not [p for p in tmp_path.iterdir() if 'partial' in p.name]


def test_tensorboard_gets_every_step_once_over_a_resume(tmp_path):
    pytest.importorskip('tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    def check(state):
        if state.step == 3: raise Killed
    plan = TrainPlan(steps=5, batch_clips=4, save_every=2)
    with pytest.raises(Killed):
        train(fresh(), TOKENIZER, EXAMPLES, plan, tmp_path, resume=True, progress=False, on_step=check, logger='tensorboard')
    state = train(fresh(), TOKENIZER, EXAMPLES, plan, tmp_path, resume=True, progress=False, logger='tensorboard')
    events = EventAccumulator(str(tmp_path / 'tensorboard')).Reload()
    assert set(events.Tags()['scalars']) == set(LOG_FIELDS[1:])
    assert [event.step for event in events.Scalars('loss')] == [1, 2, 3, 4, 5]
    np.testing.assert_allclose([event.value for event in events.Scalars('loss')], [row['loss'] for row in state.rows], rtol=1e-5)


def test_trackio_is_told_the_plan_and_every_row(tmp_path, monkeypatch):
    calls = []
    stub = type(sys)('trackio')
    stub.init = lambda **given: calls.append(('init', given['name'], given['config']['steps'], given['resume']))
    stub.log = lambda values, step: calls.append(('log', step, values['loss'], sorted(values)))
    stub.finish = lambda: calls.append(('finish',))
    monkeypatch.setitem(sys.modules, 'trackio', stub)
    with live_log('trackio', tmp_path / 'run 7', TrainPlan(steps=4)) as send: send(ROW)
    assert calls == [('init', 'run 7', 4, 'allow'), ('log', 1, 2.5, sorted(LOG_FIELDS[1:])), ('finish',)]


@pytest.mark.parametrize('kind', ['tensorboard', 'trackio'])
def test_missing_logger_is_named(tmp_path, monkeypatch, kind):
    for name in ('trackio', 'tensorboard', 'torch.utils.tensorboard'): monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=f'pip install {kind}'):
        with live_log(kind, tmp_path, TrainPlan()): pass
