"The oracle against hand-made surfaces, the question engine, and spoiled poses."
import dataclasses
from collections import Counter

import numpy as np
import pytest

from track4d_ref.cameras import rotation_about
from track4d_ref.oracle import Oracle, agreement_table, fitted_turn_deg, oracle_agrees, oracle_label, surface_center_m, surface_m
from track4d_ref.presets import load_preset, load_thresholds
from track4d_ref.questions import Style, ask_all
from track4d_ref.simulator import simulate_clips
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
