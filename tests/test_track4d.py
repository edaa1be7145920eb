"""The three parts on the model: the no-op, isolation, gradients through the state, streams, and files."""
import numpy as np
import pytest
import torch

from track4d_ref.dialogue_sets import HISTORY_MODES, history, messages_of, other_target
from track4d_ref.dialogues import make_dialogue
from track4d_ref.patches import PatchLayout
from track4d_ref.presets import load_preset
from track4d_ref.simulator import simulate_clip
from track4d_ref.storage import InputError
from track4d_ref.tokens import train_tokenizer
from track4d_ref.track4d import (Track4D, Track4DConfig, TurnRow, answer_loss, decode_turn, load_track4d, row_ids, run_turn, save_track4d,
                                 see_clip, stream_chunks)
from track4d_ref.track4d_asking import ask_all_dialogues, ask_batch
from track4d_ref.track4d_training import Track4DPlan, dialogue_loss, history_kind, make_lesson, train_track4d, turn_messages
from track4d_ref.trajectory_scores import path_scores
from track4d_ref.vlm import build_vlm, model_inputs

torch.set_num_threads(1)
PRESET = load_preset('tiny', ('resolution=32', 'patch_size=8', 'text_width=48', 'text_layers=2', 'text_heads=4', 'text_kv_heads=2',
                              'vision_width=32', 'vision_layers=1'))
LAYOUT = PatchLayout(8, 2, 2)


@pytest.fixture(scope='module')
def world():
    clips = [simulate_clip(4, load_preset('tiny', ('resolution=32', 'patch_size=8')), index, rig='ring', domain='open', smooth=False, objects=3, min_visible=0.004)
             for index in range(3)]
    pairs = [(clip, make_dialogue(clip, np.random.default_rng(index))) for index, clip in enumerate(clips)]
    return [make_lesson(clip, dialogue, LAYOUT) for clip, dialogue in pairs if dialogue], clips


@pytest.fixture(scope='module')
def words(world):
    lines = [m['content'] for l in world[0] for m in history(l.dialogue, len(l.dialogue.turns), 'gold', as_text=True)]
    return lines * 4


def build(words, **options) -> Track4D:
    tokenizer = train_tokenizer(words, 350)
    return Track4D(build_vlm(PRESET, tokenizer), tokenizer, Track4DConfig(width=24, state_width=16, slots=3, **options))


def open_parts(model: Track4D) -> None:
    with torch.no_grad():
        model.rtge.strength.fill_(0.3)
        model.trk.into_word.weight.normal_(std=0.3)


def rows_of(lessons, number=0):
    return [TurnRow(l.seen, turn_messages(l, number, history(l.dialogue, number, 'gold'))) for l in lessons]


def test_seen_clip_is_in_the_first_cameras_frame(world):
    lessons, clips = world
    tags = lessons[0].seen.tags
    assert len(tags) == 2 * 4 * 4 and tags.origin_m[0].norm() < 1e-6 and tags.view.tolist() == [0] * 16 + [1] * 16
    target = clips[0].object(lessons[0].dialogue.target)
    cover = lessons[0].seen.coverage[target.id]
    assert float(cover.sum()) * 2 * 256 == pytest.approx(sum((v.instances == target.id).sum() for v in clips[0].views))
    late = see_clip(clips[0], LAYOUT, frames=(4, 8)).tags
    assert torch.allclose(late.time, tags.time[tags.time_s > 0.9]) and torch.allclose(late.line, tags.line[tags.time_s > 0.9])
    assert see_clip(clips[0], LAYOUT, size_px=64).coverage == {} and len(see_clip(clips[0], LAYOUT, size_px=64).tags) == 128


@pytest.mark.parametrize('number', [0, 2])
def test_as_built_it_is_the_base_model(world, words, number):
    lessons, _ = world
    model = build(words)
    rows = rows_of(lessons, number)
    with torch.no_grad():
        ours = run_turn(model, rows, model.see([l.seen for l in lessons]), torch.randn(len(rows), 16)).logits
        inputs = model_inputs(model.vlm, model.tokenizer, [(r.seen.videos, r.messages) for r in rows])
        inputs.pop('labels')
        theirs = model.vlm(**inputs).logits
        for i, row in enumerate(rows): assert torch.equal(ours[i, :len(row_ids(model, row)[0])], theirs[i, :len(row_ids(model, row)[0])])
        open_parts(model)
        changed = run_turn(model, rows, model.see([l.seen for l in lessons]), torch.randn(len(rows), 16)).logits
    assert (changed - theirs).abs().max() > 1e-3


def test_the_new_word_leaves_the_old_ones_alone(words):
    tokenizer = train_tokenizer(words, 350)
    base = build_vlm(PRESET, tokenizer)
    before = base.get_input_embeddings().weight.detach().clone()
    model = Track4D(base, tokenizer)
    after = base.get_input_embeddings().weight
    assert torch.equal(after[:len(before)], before) and len(after) == len(before) + 1
    assert torch.allclose(after[model.word], before.mean(0)) and Track4D(base, tokenizer).word == model.word and len(base.get_input_embeddings().weight) == len(after)


def test_labels_cover_only_the_last_answer(world, words):
    model = build(words)
    row = rows_of(world[0], 2)[0]
    ids, labels, positions = row_ids(model, row)
    answer = model.tokenizer.decode([l for l in labels if l != -100])
    assert answer == row.messages[-1]['content'] + '<|im_end|>' and positions.shape == (3, len(ids))
    waiting = TurnRow(row.seen, row.messages[:-1])
    assert set(row_ids(model, waiting)[1]) == {-100}
    assert [l for l in row_ids(model, TurnRow(row.seen, row.messages[:-1], (5, 6)))[1] if l != -100] == [5, 6]


def test_dialogues_of_a_batch_are_alone(world, words):
    lessons, _ = world
    model = build(words)
    open_parts(model)
    rows, states = rows_of(lessons), torch.randn(len(lessons), 16)
    with torch.no_grad():
        tokens = model.see([l.seen for l in lessons])
        together = run_turn(model, rows, tokens, states)
        paths, _ = decode_turn(model, rows, tokens, together, [l.dialogue.turns[0] for l in lessons])
        alone = run_turn(model, rows[1:2], tokens[1:2], states[1:2])
        path, _ = decode_turn(model, rows[1:2], tokens[1:2], alone, [lessons[1].dialogue.turns[0]])
    assert torch.allclose(together.step.state[1], alone.step.state[0], atol=1e-5) and torch.allclose(paths.xyz_m[1], path.xyz_m[0], atol=1e-3)


def test_turns_without_the_word_keep_the_state(world, words):
    model = build(words)
    lesson, state = world[0][0], torch.randn(1, 16)
    row = TurnRow(lesson.seen, messages_of(['Is it seen?'], ['Yes.']))
    output = run_turn(model, [row], model.see([lesson.seen]), state)
    assert not output.asked.any() and torch.equal(output.step.state, state)


def test_gradients_pass_from_turn_to_turn_through_the_state(world, words):
    lessons = world[0][:1]
    model = build(words)
    open_parts(model)
    tokens = [t.detach().requires_grad_() for t in model.see([lessons[0].seen])]
    first = run_turn(model, rows_of(lessons), tokens, model.start(1))
    fresh = [t.detach() for t in tokens]
    reach = lambda state: torch.autograd.grad(answer_loss(run_turn(model, rows_of(lessons), fresh, state)), tokens, allow_unused=True, retain_graph=True)[0]
    assert reach(first.step.state).abs().max() > 0
    loss = answer_loss(run_turn(model, rows_of(lessons), fresh, first.step.state.detach()))
    with pytest.raises(RuntimeError): torch.autograd.grad(loss, [first.step.state])


def test_only_the_segments_tokens_are_looked_at(world, words):
    lesson = world[0][0]
    model = build(words)
    turn = lesson.dialogue.turns[0]
    import dataclasses
    early = dataclasses.replace(turn, times_s=np.array([0.0, 0.1, 0.2, 0.25]))
    rows, tokens = rows_of([lesson]), model.see([lesson.seen])
    output = run_turn(model, rows, tokens, model.start(1))
    path, scene = decode_turn(model, rows, tokens, output, [early])
    assert set(lesson.seen.tags.time_s[scene.mask[0]].tolist()) == {0.125} and path.xyz_m.isfinite().all()


@pytest.mark.parametrize('options', [{'use_rtge': False}, {'rtge_mode': 'film'}, {'use_ray': False}, {'memory': False}, {'anchor': 'head'}, {'anchor': 'persist'},
                                     {'use_slots': False}, {'use_kinematics': False}, {'use_residual': False}, {'head': 'gru'}])
def test_every_ablation_trains_a_step(world, words, options):
    model = build(words, **options)
    losses = dialogue_loss(model, world[0][:2])
    losses['total'].backward()
    assert losses['total'].isfinite() and model.trk.gate.weight.grad.abs().sum() > 0
    assert ('claim' in losses) == (options.get('head') != 'gru')


@pytest.mark.parametrize('kind', ['gold', 'state', 'no'])
def test_training_histories(world, words, kind):
    model = build(words)
    assert dialogue_loss(model, world[0], kind)['total'].isfinite()
    text = dialogue_loss(model, world[0][:1], as_text=True)
    assert set(text) == {'words', 'total'} and torch.equal(text['words'], text['total'])


def test_mix_of_histories():
    share = lambda progress: np.mean([history_kind(Track4DPlan(), progress, np.random.default_rng(n)) == 'gold' for n in range(400)])
    assert share(0.0) == 1 and 0.4 < share(1.0) < 0.6
    assert history_kind(Track4DPlan(as_text=True), 1.0, np.random.default_rng(0)) == 'gold'


def test_training_resumes_with_the_same_batches(world, words, tmp_path):
    whole = train_track4d(build(words), world[0], Track4DPlan(steps=3, batch=2))
    train_track4d(build(words), world[0], Track4DPlan(steps=2, batch=2), tmp_path)
    parts = train_track4d(build(words), world[0], Track4DPlan(steps=3, batch=2), tmp_path)
    assert [r['iteration'] for r in parts] == [0, 1, 2] and parts[0]['total'] == whole[0]['total']
    assert len(train_track4d(build(words), world[0], Track4DPlan(steps=3, batch=2), tmp_path)) == 3


def test_all_modes_count_the_same_turns(world, words):
    lessons, _ = world
    model = build(words)
    others = [other_target(l.dialogue, [m.dialogue for m in lessons], np.random.default_rng(0)) for l in lessons]
    required = sum(len(l.dialogue.path_turns) for l in lessons[:2])
    for mode in HISTORY_MODES:
        replies = ask_all_dialogues(model, lessons[:2], mode, others[:2], batch=1)
        assert path_scores(replies.paths)['n'] == required and len(replies.words) == sum(len(l.dialogue.turns) for l in lessons[:2]) - required
    with pytest.raises(InputError, match='one other dialogue'): ask_batch(model, lessons[:1], 'corrupted')


def test_decoders_beside_answer_only_where_asked_for(world, words):
    lessons, _ = world
    model = build(words, beside=('gru',))
    with_them, without = (ask_batch(model, lessons[:2], 'self', with_beside=flag) for flag in (True, False))
    assert set(with_them.beside) == {'gru'} and len(with_them.beside['gru']) == len(with_them.paths) and without.beside == {}
    for one, two in zip(with_them.paths, without.paths): assert (one.found_m is None) == (two.found_m is None)


def test_a_model_that_always_says_the_word_returns_every_path(world, words):
    lessons, _ = world
    model = build(words)
    model.vlm.lm_head = torch.nn.Linear(48, len(model.tokenizer), bias=True)
    with torch.no_grad(): model.vlm.lm_head.weight.zero_(); model.vlm.lm_head.bias.zero_(); model.vlm.lm_head.bias[model.word] = 1
    scores = path_scores(ask_batch(model, lessons[:1], 'self').paths)
    assert scores['parse_rate'] == 1 and np.isfinite(scores['ade_m'])
    with torch.no_grad(): model.vlm.lm_head.bias[model.tokenizer.eos_token_id] = 2
    assert path_scores(ask_batch(model, lessons[:1], 'self').paths)['parse_rate'] == 0


def test_stream_may_be_cut_and_stays_small(world, words):
    import gc
    _, clips = world
    model = build(words)
    parts = [see_clip(clips[0], LAYOUT, frames=(start, start + 2)) for start in (0, 2, 4, 6)]
    with torch.no_grad():
        whole = [s.state for s in stream_chunks(model, parts, model.start(1))]
        front = [s.state for s in stream_chunks(model, parts[:1], model.start(1))]
        assert torch.equal([s.state for s in stream_chunks(model, parts[1:], front[-1])][-1], whole[-1])
        sizes = []
        for number, _ in enumerate(stream_chunks(model, (parts[n % 4] for n in range(60)), model.start(1))):
            if number in (5, 30, 59):
                gc.collect()
                sizes.append(sum(t.numel() for t in gc.get_objects() if type(t) is torch.Tensor))
    assert max(sizes) == min(sizes)


def test_save_and_load(world, words, tmp_path):
    model = build(words)
    open_parts(model)
    rows = rows_of(world[0])
    save_track4d(model, tmp_path / 'm')
    again = load_track4d(tmp_path / 'm')
    with torch.no_grad():
        outputs = [run_turn(m, rows, m.see([r.seen for r in rows]), torch.ones(len(rows), 16)) for m in (model, again)]
    assert torch.equal(outputs[0].logits, outputs[1].logits) and again.config == model.config
    (tmp_path / 'm' / 'parts.safetensors').write_bytes(b'junk')
    with pytest.raises(InputError, match='parts.safetensors: not readable'): load_track4d(tmp_path / 'm')
    with pytest.raises(InputError, match='no such file'): load_track4d(tmp_path)
