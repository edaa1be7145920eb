"""All metrics against independent implementations (scipy, plain loops) and the four properties every score must have."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from track4d_ref.scoring import accuracy_table, mcnemar, score_rows, seeds_interval, t_quantile, wilson
from track4d_ref.track_metrics import track_metrics
from track4d_ref.trajectory_scores import PathAnswer, path_scores

stats = pytest.importorskip('scipy.stats')
SHARES = ('parse_rate', 'sr@0.5m', 'sr@1m', 'sr@2m', 'traj_acc', 'late_traj_acc', 'identity')


@given(some.integers(1, 3000), some.data(), some.sampled_from([0.8, 0.95, 0.99]))
@settings(max_examples=100, deadline=None)
def test_wilson_equals_scipy(total, data, confidence):
    correct = data.draw(some.integers(0, total))
    theirs = stats.binomtest(correct, total).proportion_ci(confidence, method='wilson')
    assert wilson(correct, total, confidence) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@given(some.integers(0, 300), some.integers(0, 300), some.integers(0, 50))
@settings(max_examples=100, deadline=None)
def test_mcnemar_equals_the_exact_binomial_test_of_scipy(first_only, second_only, both):
    first = [True] * (first_only + both) + [False] * second_only
    second = [False] * first_only + [True] * (both + second_only)
    expected = stats.binomtest(first_only, first_only + second_only).pvalue if first_only + second_only else 1.0
    assert mcnemar(first, second).p == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize('freedom', [1, 2, 3, 4, 9, 30, 101])
@pytest.mark.parametrize('confidence', [0.5, 0.9, 0.95, 0.999])
def test_student_equals_scipy(freedom, confidence):
    assert t_quantile(confidence, freedom) == pytest.approx(stats.t.ppf((1 + confidence) / 2, freedom), rel=1e-7)


def test_interval_over_seeds_equals_scipy():
    values = [61.2, 58.9, 64.0, 60.1]
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert seeds_interval(values) == pytest.approx((np.mean(values), low, high), rel=1e-9)


def random_answers(rng, dialogues=12, noise_m=1.0):
    answers = []
    for dialogue in range(dialogues):
        others = rng.normal(0, 3, (2, 4, 3))
        for turn in range(1, int(rng.integers(2, 6))):
            truth = rng.normal(0, 3, (4, 3))
            if rng.random() < .2: truth[int(rng.integers(1, 4)):] = np.nan
            found = None if rng.random() < .2 else np.nan_to_num(truth) + rng.normal(0, noise_m, (4, 3))
            answers.append(PathAnswer(f'd{dialogue}', turn, truth, found, others))
    return answers


def loop_scores(answers):
    """ADE, FDE, SR and Traj-Acc written out as loops over turns and steps."""
    total = near = right = late = late_right = read = 0
    ade_sum = fde_sum = 0.0
    for answer in answers:
        errors = []
        for truth, step in zip(answer.truth_m, range(4)):
            if np.isnan(truth).any(): continue
            if answer.found_m is None: errors.append(float('inf')); continue
            errors.append(sum((float(answer.found_m[step][axis]) - float(truth[axis])) ** 2 for axis in range(3)) ** .5)
        total += len(errors)
        near += sum(error <= 1 for error in errors)
        ade = sum(errors) / len(errors)
        right += ade <= 1
        if answer.turn >= 3: late, late_right = late + 1, late_right + (ade <= 1)
        if answer.found_m is not None: read, ade_sum, fde_sum = read + 1, ade_sum + ade, fde_sum + errors[-1]
    return {'parse_rate': read / len(answers), 'sr@1m': near / total, 'traj_acc': right / len(answers),
            'late_traj_acc': late_right / late, 'ade_m': ade_sum / read, 'fde_m': fde_sum / read}


@given(some.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_path_scores_equal_loops(seed):
    answers = random_answers(np.random.default_rng(seed))
    scores = path_scores(answers)
    for key, value in loop_scores(answers).items(): assert scores[key] == pytest.approx(value, rel=1e-9), key


@given(some.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_path_scores_ignore_order_and_stay_in_bounds(seed):
    rng = np.random.default_rng(seed)
    answers = random_answers(rng)
    scores, shuffled = path_scores(answers), path_scores([answers[i] for i in rng.permutation(len(answers))])
    assert all(np.isclose(scores[key], shuffled[key], equal_nan=True) for key in scores)
    assert all(np.isnan(scores[key]) or 0 <= scores[key] <= 1 for key in SHARES) and scores['ade_m'] >= 0


def test_truth_scores_one_and_shuffled_paths_fall():
    answers = [a for a in random_answers(np.random.default_rng(3), 60) if a.found_m is not None]
    perfect = path_scores([PathAnswer(a.dialogue, a.turn, a.truth_m, a.truth_m, a.others_m) for a in answers])
    assert all(perfect[key] == 1 for key in SHARES) and perfect['ade_m'] == perfect['fde_m'] == 0
    moved = [PathAnswer(a.dialogue, a.turn, a.truth_m, b.truth_m, a.others_m) for a, b in zip(answers, answers[7:] + answers[:7])]
    assert path_scores(moved)['traj_acc'] < .05


@given(some.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_track_metrics_ignore_the_order_of_tracks_and_frames(seed):
    rng = np.random.default_rng(seed)
    truth, visible, called, counted = rng.uniform(0, 99, (7, 5, 2)), *(rng.random((7, 5)) < .7 for _ in range(3))
    visible[2, 2] = counted[2, 2] = True
    said = truth + rng.normal(0, 4, truth.shape)
    frames, tracks = rng.permutation(7), rng.permutation(5)
    scores = track_metrics(truth, visible, said, called, counted, 77, 99)
    moved = [part[frames][:, tracks] for part in (truth, visible, said, called, counted)]
    assert track_metrics(*moved, 77, 99) == pytest.approx(scores)
    assert all(0 <= value <= 1 for value in scores.values()) and scores['average_jaccard'] <= scores['delta_average'] + 1e-12


@given(some.integers(2, 4), some.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_shuffled_letters_score_chance(options, seed):
    rng = np.random.default_rng(seed)
    letters = rng.permutation(list('ABCD'[:options]) * 400)
    rows = [dict(id=str(i), type='t', choices=list('wxyz'[:options]), truth=str(truth), answer=str(said))
            for i, (truth, said) in enumerate(zip(letters, rng.permutation(letters)))]
    line = accuracy_table(score_rows(rows)).lines[-1]
    assert abs(line.accuracy - 1 / options) < 4 * (1 / options * (1 - 1 / options) / len(rows)) ** .5
    assert line.chance == pytest.approx(1 / options)
