"""Track scores against counted cases, a plain loop and their own bounds."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from track4d_ref.storage import InputError
from track4d_ref.track_metrics import (METRIC_RADII_M, PIXEL_RADII, all_but_query, median_scale, track_metrics,
                                       track_metrics_3d)

HEIGHT, WIDTH = 120, 200
K = np.array([[210.0, 0, 101], [0, 170, 63], [0, 0, 1]])


def loop_scores(error, radii, visible, called, counted):
    "The definition, point by point; radii (R, T, N)."
    within, jaccard = [], []
    for radius in radii:
        hits = both = shown = alarms = 0
        for t, n in np.ndindex(error.shape):
            if not counted[t, n]: continue
            hit = error[t, n] < radius[t, n] and visible[t, n]
            shown, hits = shown + visible[t, n], hits + hit
            both, alarms = both + (hit and called[t, n]), alarms + (called[t, n] and not hit)
        within.append(hits / shown)
        jaccard.append(both / (shown + alarms))
    return np.mean(jaccard), np.mean(within), (visible == called)[counted].mean()


@given(some.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_agrees_with_the_definition_in_two_and_three_dimensions(seed):
    rng = np.random.default_rng(seed)
    flags = [rng.random((7, 4)) < 0.7 for _ in range(3)]
    flags[0][1, 1] = flags[2][1, 1] = True
    truth = rng.uniform(0, 100, (7, 4, 2))
    said = truth + rng.normal(0, 4, truth.shape)
    error = np.linalg.norm((said - truth) * (256 / WIDTH, 256 / HEIGHT), axis=-1)
    scores = track_metrics(truth, flags[0], said, *flags[1:], HEIGHT, WIDTH)
    radii = np.multiply.outer(PIXEL_RADII, np.ones((7, 4)))
    assert np.allclose(list(scores.values()), loop_scores(error, radii, *flags))
    xyz = rng.uniform(1, 9, (7, 4, 3))
    said_xyz = xyz + rng.normal(0, 0.1, xyz.shape)
    error_m = np.linalg.norm(said_xyz - xyz, axis=-1)
    scores = track_metrics_3d(xyz, flags[0], said_xyz, *flags[1:], K)
    at_depth = np.multiply.outer(PIXEL_RADII, xyz[..., 2]) / np.sqrt(210 * 170)
    assert np.allclose(list(scores.values()), loop_scores(error_m, at_depth, *flags))
    scores = track_metrics_3d(xyz, flags[0], said_xyz, *flags[1:])
    fixed = np.multiply.outer(METRIC_RADII_M, np.ones((7, 4)))
    assert np.allclose(list(scores.values()), loop_scores(error_m, fixed, *flags))


def test_counted_by_hand():
    truth = np.zeros((1, 5, 2))
    said = np.array([[[0.5, 0], [0, 3], [20, 0], [0, 0], [0, 0]]])
    visible, called = np.array([[1, 1, 1, 0, 0]], bool), np.array([[1, 0, 1, 1, 0]], bool)
    scores = track_metrics(truth, visible, said, called, np.ones((1, 5), bool), 256, 256)
    assert np.isclose(scores['delta_average'], (2 * 1 / 3 + 3 * 2 / 3) / 5)
    # one hit called visible at every radius; false alarms: the far point and the hidden one
    assert np.isclose(scores['average_jaccard'], 1 / (3 + 2))
    assert np.isclose(scores['occlusion_accuracy'], 3 / 5)


def test_perfect_is_one_and_silence_is_zero():
    truth, visible = np.random.default_rng(0).uniform(0, 99, (5, 3, 2)), np.ones((5, 3), bool)
    perfect = track_metrics(truth, visible, truth, visible, visible, HEIGHT, WIDTH)
    assert set(perfect.values()) == {1.0}
    silent = track_metrics(truth, visible, truth, ~visible, visible, HEIGHT, WIDTH)
    assert silent['average_jaccard'] == 0 and silent['occlusion_accuracy'] == 0
    unknown = track_metrics(truth, visible, truth * np.nan, visible, visible, HEIGHT, WIDTH)
    assert unknown['delta_average'] == 0 and unknown['average_jaccard'] == 0


def test_errors_are_measured_in_a_256_square():
    truth, yes = np.zeros((1, 1, 2)), np.ones((1, 1), bool)
    for step, count in (((WIDTH / 256 * 3.9, 0), 3), ((0, HEIGHT / 256 * 3.9), 3), ((WIDTH / 256 * 4.1, 0), 2)):
        score = track_metrics(truth, yes, truth + step, yes, yes, HEIGHT, WIDTH)['delta_average']
        assert np.isclose(score, count / 5), step


def test_query_frames_do_not_count():
    counted = all_but_query([0, 2, 2], 4)
    assert counted.shape == (4, 3) and counted.sum() == 9 and not counted[2, 1]
    truth, yes = np.zeros((4, 3, 2)), np.ones((4, 3), bool)
    said = np.where(counted[..., None], 0.0, 1e6)
    assert track_metrics(truth, yes, said, yes, counted, HEIGHT, WIDTH)['average_jaccard'] == 1
    with pytest.raises(InputError, match='no point is counted'):
        track_metrics(truth, yes, said, yes, ~yes, HEIGHT, WIDTH)
    with pytest.raises(InputError, match='make them equal'):
        track_metrics(truth, yes[:1], said, yes, yes, HEIGHT, WIDTH)


@pytest.mark.parametrize('factor', [0.1, 1.0, 7.0])
def test_median_scale_undoes_a_global_factor(factor):
    rng = np.random.default_rng(1)
    xyz, visible = rng.uniform(1, 9, (6, 5, 3)), rng.random((6, 5)) < 0.8
    scale = median_scale(xyz, visible, factor * xyz, visible)
    assert np.isclose(scale, 1 / factor)
    assert median_scale(xyz, visible, xyz, visible & False) == 1
    all_in = np.ones((6, 5), bool)
    assert track_metrics_3d(xyz, visible, scale * factor * xyz, visible, all_in, K)['average_jaccard'] == 1
