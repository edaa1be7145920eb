"""The table of LMM-Track4D: scores and intervals of rows, baselines, differences, cells."""
import numpy as np
import pytest

from track4d_ref.dialogues import Dialogue, Turn
from track4d_ref.oskra import HEADS
from track4d_ref.presets import load_preset
from track4d_ref.storage import InputError
from track4d_ref.track4d_table import (BUDGETS, KEYS, cell, coasting_sets, estimate, plan_of, rows_from, run_track4d, scores_of, signed)
from track4d_ref.track4d_training import Lesson
from track4d_ref.trajectory_scores import PathAnswer, path_scores


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


def test_bad_input_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match='has no budget'): run_track4d(load_preset('rtx24'), tmp_path, 0)


def test_ablations_are_trained_beside_the_full_model():
    config, plan = plan_of(BUDGETS['tiny'], 'full', 0)
    assert set(config.beside) <= set(HEADS) and 'gru' in config.beside and not plan.as_text
    config, plan = plan_of(BUDGETS['tiny'], 'trajectories as text', 0)
    assert config.beside == () and plan.as_text and plan.steps == BUDGETS['tiny'].steps
