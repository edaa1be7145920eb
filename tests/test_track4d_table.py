"""The table of LMM-Track4D: scores and intervals of rows, baselines, runs that refuse to mix, and the benchmark folder."""
from dataclasses import replace

import numpy as np
import pytest
import torch

from track4d_ref.dialogue_packing import PackedReading, pack_turns
from track4d_ref.dialogue_sets import history, in_test, load_dialogues
from track4d_ref.dialogues import Dialogue, Turn, make_dialogue
from track4d_ref.oskra import HEADS
from track4d_ref.patches import PatchLayout
from track4d_ref.presets import load_preset
from track4d_ref.simulator import simulate_clip
from track4d_ref.storage import InputError
from track4d_ref.tokens import train_tokenizer
from track4d_ref.track4d import Track4D, Track4DConfig, TurnRow, run_turn, shown_grids, shown_tokens
from track4d_ref.track4d_bench import write_benchmark
from track4d_ref.track4d_real import data_root, real_cells, scores
from track4d_ref.track4d_real import data_root, real_cells, scores
from track4d_ref.track4d_runs import claim_run, load_small, save_small, train_run, write_losses
from track4d_ref.track4d_table import (BUDGETS, KEYS, cell, coasting_sets, estimate, plan_of, rows_from, run_track4d, scores_of, signed)
from track4d_ref.track4d_training import Lesson, dialogue_loss, make_lesson, turn_messages
from track4d_ref.trajectory_scores import PathAnswer, path_scores
from track4d_ref.vlm import build_vlm, save_vlm

torch.set_num_threads(1)


def turn(times_s, xyz_m):
    return Turn('trajectory', 'Where?', 'There.', (0, 4), np.asarray(times_s, float), np.asarray(xyz_m, float), np.ones(4, bool), {'occluded': False})


@pytest.fixture
def talk():
    line = lambda t: np.stack([np.asarray(t, float), np.zeros(4), np.full(4, 8.0)], -1)
    turns = (turn([0, 1, 2, 3], line([0, 1, 2, 3])), turn([1, 2, 3, 4], line([1, 2, 3, 4])))
    dialogue = Dialogue('a', 'clip', 'scene', 'simulator', 1, 'red ball', False, (0, 8), turns)
    return [Lesson(None, dialogue, {})], turns


def answers_of(turns, shift=(0, 0, 0)):
    return [PathAnswer('a', k, t.xyz_m, t.xyz_m + np.array(shift), labels=t.labels) for k, t in enumerate(turns, 1)]


def random_answers(seed=0, dialogues=7):
    rng = np.random.default_rng(seed)
    made = [PathAnswer(f'd{d}', k, rng.normal(size=(4, 3)), rng.normal(size=(4, 3)) if rng.random() > 0.2 else None, labels={'occluded': bool(k % 2)})
            for d in range(dialogues) for k in range(1, 2 + int(rng.integers(4)))]
    return made, {a.dialogue: False for a in made}


@pytest.mark.parametrize('key', KEYS)
def test_estimates_equal_the_scores_of_the_metric_notebook(key):
    answers, long = random_answers()
    found = estimate([rows_from(answers, long)], key)
    assert found.value == pytest.approx(path_scores(answers)[key], abs=2e-3) and found.low <= found.value <= found.high


def test_the_interval_resamples_dialogues_and_narrows_with_them():
    few, many = (estimate([rows_from(*random_answers(1, n))], 'ade_m') for n in (6, 200))
    assert many.high - many.low < few.high - few.low
    rows = rows_from(*random_answers(2))
    same = estimate([rows], 'ade_m', [rows])
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert estimate([[row | {'turn': 1} for row in rows]], 'late_traj_acc') is None


def test_constant_velocity_is_exact_on_a_straight_line_and_has_no_first_turn_of_its_own(talk):
    lessons, turns = talk
    sets = coasting_sets(lessons, answers_of(turns, (0, 0, 1)))
    assert all(np.allclose(a.found_m, a.truth_m) for a in sets['constant velocity, true first two'])
    own = sets['constant velocity, own first two']
    assert all(np.allclose(a.found_m - a.truth_m, (0, 0, 1)) for a in own)
    for name, shift in (('constant velocity, own previous answer', 1), ('constant velocity, true previous answer', 0)):
        first, second = sets[name]
        assert first.found_m is None and np.allclose(second.found_m - second.truth_m, (0, 0, shift))


def test_a_set_is_compared_with_the_full_model_over_the_same_dialogues():
    rows = rows_from(*random_answers(3))
    worse = [row | {'errors': row['errors'] and [e + 1 for e in row['errors']]} for row in rows]
    scores = scores_of({'seeds': [worse, worse]}, {'seeds': [rows, rows]})
    assert scores['all']['ade_m difference'] == pytest.approx([1, 1, 1]) and len(scores['each seed']) == 2
    assert scores['occluded']['n'] + scores['visible']['n'] == scores['all']['n']


def test_cells():
    assert cell([0.5, 0.4, 0.6], 'traj_acc') == '50.0 (40–60)' and cell([1.25, 1, 2], 'ade_m') == '1.25 (1.00–2.00)' and cell(None, 'ade_m') == '–'
    assert signed([-0.1, -0.2, 0.0], 'ade_m') == '-0.10 (-0.20 to +0.00)' and signed([0.1, 0, 0.2], 'late_traj_acc') == '+10.0 (+0.0 to +20.0)'


def test_a_run_folder_keeps_its_first_wish(tmp_path):
    claim_run(tmp_path, {'plan': {'steps': 3}})
    claim_run(tmp_path, {'plan': {'steps': 3}})
    with pytest.raises(InputError, match='another plan'): claim_run(tmp_path, {'plan': {'steps': 4}})
    write_losses(tmp_path / 'log.csv', [{'iteration': 0, 'words': 1.0}, {'iteration': 1, 'words': 0.5, 'focus': 2.0}])
    assert (tmp_path / 'log.csv').read_text().splitlines() == ['iteration,words,focus', '0,1.0000,', '1,0.5000,2.0000']


def test_bad_input_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match='is no folder of a model'): train_run(tmp_path, load_preset('tiny'), tmp_path / 'nothing')
    with pytest.raises(InputError, match='has no budget'): run_track4d(load_preset('rtx24'), tmp_path, 0)


def test_all_ablations_are_trained_beside_the_full_model():
    config, plan = plan_of(BUDGETS['tiny'], 'full', 0)
    assert set(config.beside) == set(HEADS) and not plan.as_text
    config, plan = plan_of(BUDGETS['tiny'], 'trajectories as text', 0)
    assert config.beside == () and plan.as_text and plan.steps == BUDGETS['tiny'].steps


def test_benchmark_folder_goes_on_and_splits_by_scene(tmp_path):
    preset = load_preset('tiny', ('resolution=56',))
    card = write_benchmark(tmp_path, preset, entries=3, each=2, progress=False)
    (tmp_path / 'parts' / '002.jsonl').unlink()
    assert write_benchmark(tmp_path, preset, entries=3, each=2, progress=False)['card']['data'] == card['card']['data']
    assert not any(in_test(d.scene) for d in load_dialogues(tmp_path / 'train.jsonl'))
    assert card['counts']['train']['dialogues'] + card['counts']['test']['dialogues'] == 3


# --- what the language model sees, and the shipped form ---------------------------------------------------------------

SMALL = load_preset('tiny', ('resolution=64', 'patch_size=8', 'text_width=48', 'text_layers=2', 'text_heads=4', 'text_kv_heads=2', 'vision_width=32', 'vision_layers=1'))


@pytest.fixture(scope='module')
def pooled():
    clip = simulate_clip(4, SMALL, 0, rig='ring', domain='open', smooth=False, objects=3, min_visible=0.004)
    dialogue = make_dialogue(clip, np.random.default_rng(0))
    tokenizer = train_tokenizer([m['content'] for m in history(dialogue, 9, 'gold')] * 6, 350)
    model = Track4D(build_vlm(SMALL, tokenizer), tokenizer, Track4DConfig(width=24, state_width=16, slots=3, pool=2))
    return model, make_lesson(clip, dialogue, PatchLayout(8, 2, 2))


def test_pooled_tokens_are_means_of_neighbours(pooled):
    model, lesson = pooled
    tokens = torch.randn(len(lesson.seen.tags), 48)
    shown = shown_tokens(model, lesson.seen, tokens)
    grid = tokens.reshape(2, 4, 4, 4, 48)                                    # view, pair, row, column
    naive = [grid[v, t, 2 * r:2 * r + 2, 2 * c:2 * c + 2].mean((0, 1)) for v in range(2) for t in range(4) for r in range(2) for c in range(2)]
    assert torch.allclose(shown, torch.stack(naive), atol=1e-6) and shown_grids(model, lesson.seen) == [(4, 4, 4)] * 2
    model.config = replace(model.config, pool=3)
    with pytest.raises(InputError, match='pool = 3 does not divide'): shown_grids(model, lesson.seen)
    model.config = replace(model.config, pool=2)


def test_packed_and_single_turns_agree_with_pooling(pooled):
    model, lesson = pooled
    with torch.no_grad():
        tokens = model.see([lesson.seen])
        messages = turn_messages(lesson, 0, ())
        alone = run_turn(model, [TurnRow(lesson.seen, messages)], tokens, model.start(1))
        packed = pack_turns(model, [lesson.seen], [[messages]])
        reading = PackedReading(model, packed, [shown_tokens(model, lesson.seen, tokens[0])])
        at_word = reading.branch(0, torch.tensor([0]), model.start(1))
    assert torch.allclose(alone.hidden, at_word, atol=1e-4) and packed.ids.shape[1] == alone.logits.shape[1]
    losses = dialogue_loss(model, [lesson])
    assert torch.isfinite(losses['total'])


def test_a_shipped_model_answers_alike_and_takes_the_tower_from_its_base(pooled, tmp_path):
    model, lesson = pooled
    save_vlm(model.vlm, model.tokenizer, tmp_path / 'base')
    save_small(model, tmp_path / 'whole')
    save_small(model, tmp_path / 'small', '../base')
    size = lambda name: (tmp_path / name / 'small.safetensors').stat().st_size
    with torch.no_grad():
        losses = [float(dialogue_loss(one, [lesson])['total']) for one in (model, load_small(tmp_path / 'whole'), load_small(tmp_path / 'small'))]
    assert size('small') < size('whole') and losses == pytest.approx([losses[0]] * 3, rel=0.01)
    (tmp_path / 'small' / 'small.safetensors').write_bytes(b'nothing')
    with pytest.raises(InputError, match='is no shipped LMM-Track4D'): load_small(tmp_path / 'small')


def test_real_scores_and_cells():
    rows = rows_from(*random_answers(4))
    part = scores({'as trained on simulated scenes': rows, 'after a short fine-tune': rows}) | {'change of ADE': [0.0, -0.1, 0.1]}
    lines = real_cells({'kitti test': part, 'wildtrack test': part, 'counts': {}, 'steps': 1})
    assert {len(line) for line in lines} == {9} and sum('change' in line[1] for line in lines) == 2


def test_missing_samples_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv('TRACK4D_DATA', str(tmp_path))
    with pytest.raises(InputError, match='holds no kitti_tracking'): data_root()
