"""Scores of trajectory turns, by hand and by property."""
import numpy as np
import pytest

from track4d_ref.trajectory_scores import (PathAnswer, bootstrap, bootstrap_difference, constant_velocity, identity_consistency,
                                           nearest_path, path_scores)

LINE = np.arange(12.0).reshape(4, 3)


def answer(offset_m=0.0, turn=1, dialogue='d', found=True, **more) -> PathAnswer:
    return PathAnswer(dialogue, turn, LINE, LINE + (offset_m, 0, 0) if found else None, **more)


def test_scores_by_hand():
    row = path_scores([answer(0), answer(0.8, 2), answer(1.5, 3), answer(turn=4, found=False)])
    assert row['n'] == 4 and row['parse_rate'] == 0.75 and row['ade_m'] == pytest.approx(2.3 / 3) and row['fde_m'] == pytest.approx(2.3 / 3)
    assert (row['sr@0.5m'], row['sr@1m'], row['sr@2m']) == (0.25, 0.5, 0.75) and row['traj_acc'] == 0.5
    assert row['late_n'] == 2 and row['late_traj_acc'] == 0


def test_unknown_truth_is_not_counted_and_wrong_numbers_are_wrong():
    truth = LINE.copy()
    truth[2:] = np.nan
    some = PathAnswer('d', 1, truth, LINE + (0, 0, 1))
    assert some.errors_m.tolist() == [1, 1] and some.fde_m == 1
    assert path_scores([PathAnswer('d', 1, truth * np.nan, LINE)]) == {'n': 0}
    broken = PathAnswer('d', 1, LINE, np.full((4, 3), np.nan))
    assert path_scores([broken])['traj_acc'] == 0 and path_scores([broken])['sr@2m'] == 0


def test_silence_never_pays():
    told = [answer(0.9, n % 4 + 1, str(n // 4)) for n in range(40)]
    silent = [PathAnswer(a.dialogue, a.turn, a.truth_m, None if i % 2 else a.found_m) for i, a in enumerate(told)]
    a, b = path_scores(told), path_scores(silent)
    assert b['traj_acc'] < a['traj_acc'] and b['sr@1m'] < a['sr@1m'] and b['ade_m'] == pytest.approx(a['ade_m']) and b['parse_rate'] == 0.5


def test_identity():
    others = np.stack([LINE + 5, LINE - 5])
    kept = [answer(0.1, turn, others_m=others) for turn in (1, 2, 3)]
    assert nearest_path(kept[0]) == 0 and identity_consistency(kept) == 1
    lost = [*kept[:2], PathAnswer('d', 3, LINE, LINE + 5, others)]
    assert nearest_path(lost[2]) == 1 and identity_consistency(lost) == 0.5
    wrong_but_loyal = [PathAnswer('d', turn, LINE, LINE - 5, others) for turn in (1, 2)]
    assert identity_consistency(wrong_but_loyal) == 1 and np.isnan(identity_consistency([answer()]))


def test_intervals():
    rng = np.random.default_rng(0)
    good, bad = ([answer(abs(rng.normal()) * size, turn, f'd{d}') for d in range(30) for turn in (1, 2, 3)] for size in (0.5, 1.5))
    low, high = bootstrap(good, 'traj_acc', 200)
    assert low <= path_scores(good)['traj_acc'] <= high and bootstrap(good, 'traj_acc', 200) == (low, high)
    assert bootstrap_difference(good, bad, 'traj_acc', 200)[0] > 0
    assert bootstrap_difference(good, good, 'traj_acc', 50) == (0, 0)


def test_constant_velocity_is_exact_on_straight_lines():
    times = np.array([0.0, 0.3, 0.9, 1.0])
    path = np.array([1.0, 2, 3]) + times[:, None] * np.array([-1, 0.5, 2])
    assert np.allclose(constant_velocity(times, path[:2]), path)
