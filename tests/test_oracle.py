"The oracle against hand-made surfaces, the question engine, and spoiled poses."
import dataclasses
from collections import Counter

import numpy as np
import pytest

from track4d_ref.cameras import rotation_about
from track4d_ref.oracle import Oracle, agreement_table, fitted_turn_deg, oracle_agrees, oracle_label, surface_center_m, surface_m
from track4d_ref.oracle_limits import length_span_m, sure_turn, surely_agrees
from track4d_ref.presets import load_preset, load_thresholds
from track4d_ref.questions import Style, ask_all
from track4d_ref.simulator import simulate_clip, simulate_clips
from track4d_ref.storage import InputError
from test_questions import CUTS, UP, path, scene, thing


def half_sphere(center, eye, radius, count=2000):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(count, 3))
    points = center + radius * points / np.linalg.norm(points, axis=1, keepdims=True)
    return points[(points - center) @ (eye - center) > 0]


@pytest.mark.parametrize('eye', [(4.0, 1, 0.5), (-3.0, -5, 2), (0.5, 6, 1)])
def test_center_of_a_ball_from_its_near_side(eye):
    center, eye = np.array([0.3, -0.2, 0.6]), np.array(eye)
    assert np.linalg.norm(surface_center_m(half_sphere(center, eye, 0.5), eye, UP) - center) < 0.12


@pytest.mark.parametrize('turn', [-33, -12, 0, 6, 24, 39])
def test_turn_of_a_long_block(turn):
    rng = np.random.default_rng(1)
    block = rng.uniform(-1, 1, (600, 3)) * (1.5, 0.5, 0.5)
    block = block[(np.abs(block) > (1.4, 0.45, 0.45)).any(1)]
    assert abs(fitted_turn_deg(block, block @ rotation_about(UP, np.deg2rad(turn)).T + 0.03, UP) - turn) <= 3


def test_cut_and_hidden_objects_are_not_measured():
    open_view = scene([thing(1, 'box', path((0, 0, 1)))])
    assert surface_m(open_view, 0, 0, 1) is not None
    assert surface_m(scene([thing(1, 'box', path((-4.6, 0, 1)))]), 0, 0, 1) is None                       # at the edge
    hidden = scene([thing(1, 'box', path((0, 1, 1))), thing(2, 'can', path((0.3, -2, 1.1)))])
    assert surface_m(hidden, 0, 0, 1) is None and surface_m(hidden, 0, 0, 2) is not None
    with pytest.raises(InputError, match='depth'): Oracle(scene([], masks=False))


@pytest.fixture(scope='module')
def simulated():
    return list(simulate_clips(12, 404, load_preset('tiny')))


def verdicts(clips, spoil=lambda clip: clip, types=None):
    cuts, found = load_thresholds('simulator'), Counter()
    for number, clip in enumerate(clips):
        oracle = Oracle(clip)
        style = Style(modes=('caption', 'pixel'), systems=('first camera', 'gravity-aligned', 'screen'))
        for question in ask_all(spoil(clip), np.random.default_rng(number), *([types] if types else []), per_type=2, style=style):
            found[question.type, oracle_agrees(oracle, question, cuts)] += 1
    return found


def test_agreement_on_simulated_clips(simulated):
    rows = agreement_table(verdicts(simulated))
    agreed, against = (sum(row[name] for row in rows) for name in ('agreed', 'disagreed'))
    print('oracle:', agreed, 'agreed,', against, 'against')
    assert agreed > 120 and against <= 0.01 * (agreed + against)
    assert sum(row['agreed'] > 0 for row in rows) >= 11


def test_spoiled_poses_are_noticed(simulated):
    def backwards(clip):
        return dataclasses.replace(clip, objects=tuple(dataclasses.replace(item, world_from_object=item.world_from_object[::-1]) for item in clip.objects))
    found = verdicts(simulated, backwards, ('object_direction', 'object_rotation', 'object_object_distance_change'))
    against = sum(count for (_, verdict), count in found.items() if verdict is False)
    assert against > 0.3 * sum(count for (_, verdict), count in found.items() if verdict is not None)


def test_label_of_a_hand_made_approach():
    clip = scene([thing(1, 'box', path((0, 3, 1), (0, -5, 0)))])
    for question in ask_all(clip, np.random.default_rng(0), ('camera_object_distance_change', 'object_direction', 'camera_movement'), thresholds=CUTS):
        assert oracle_label(Oracle(clip), question, CUTS) == question.meta['truth']


def test_a_gap_and_a_jumping_centre_make_a_length_uncertain():
    clip = scene([thing(1, 'box', path((-2, 0, 1), (3, 0, 0))), thing(2, 'can', path((1, 3, 1)))])
    oracle, frames = Oracle(clip), tuple(range(7))
    ways = np.concatenate([np.zeros((7, 2)), np.ones((7, 1))], 1)
    ways[:, 0] = (0, 1, 2, 1, 0, 1, 2)                              # six metres to and fro
    oracle.centers = {(1, t): ways[t] for t in frames}
    low, high = length_span_m(oracle, 1, frames)
    assert low < 6 < high and high - low == pytest.approx(2 * oracle.blur_m(1, 0))
    oracle.centers[1, 2] = None                                     # unseen while it turns back: the polygon has four metres
    low, high = length_span_m(oracle, 1, frames)
    assert low < 4 < 6 <= high
    for hidden in ((1, 2, 3), (0,), (6,)):
        oracle.centers = {(1, t): None if t in hidden else ways[t] for t in frames}
        assert length_span_m(oracle, 1, frames) is None


@pytest.mark.parametrize('steps, sure', [([6, 6, 6], True), ([-3, -6, 0, -3], True), ([3, 3], False), ([], False), (None, False),
                                         ([-3, 3, 0, -9, 15, 6, 0], False), ([0, 15, -45, 9], False), ([30, 45], False)])
def test_turns_that_can_be_believed(steps, sure):
    assert sure_turn(steps, CUTS) is sure


def test_the_contradicted_moved_distances_were_the_oracles_errors():
    style = Style(modes=('caption', 'pixel'), systems=('first camera', 'gravity-aligned', 'screen'))
    cuts, contradicted = load_thresholds('simulator'), 0
    for index in (322, 457, 514):
        clip = simulate_clip(0, load_preset('tiny'), index)
        oracle = Oracle(clip)
        for question in ask_all(clip, np.random.default_rng(index), ('moved_distance',), per_type=4, style=style):
            far = [np.linalg.norm(np.diff(clip.object(record['object']).centers_m, axis=0), axis=1).sum() for record in question.references]
            if oracle_agrees(oracle, question, cuts) is not False: continue
            contradicted += 1
            assert max(far) >= cuts.path_ratio * min(far) and question.meta['truth'] == ('{a}', '{b}')[int(np.argmax(far))]
            assert surely_agrees(oracle, question, cuts) is None
    assert contradicted >= 3


def test_a_sure_oracle_still_sees_swapped_labels(simulated):
    cuts, found = load_thresholds('simulator'), Counter()
    for number, clip in enumerate(simulated):
        oracle = Oracle(clip)
        for question in ask_all(clip, np.random.default_rng(number), ('moved_distance', 'object_direction', 'object_rotation'), per_type=3):
            swap = {'{a}': '{b}', '{b}': '{a}', 'clockwise': 'counterclockwise', 'counterclockwise': 'clockwise'}
            wrong = swap.get(question.meta['truth'], 'moves nowhere')
            verdict = surely_agrees(oracle, dataclasses.replace(question, meta=dict(question.meta, truth=wrong)), cuts)
            found[verdict] += 1
    assert found[True] == 0 and found[False] > 10
