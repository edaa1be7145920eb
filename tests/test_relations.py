"""The six relations on a rolled camera with uneven K, the options, the questions and whose geometry answers them."""
import dataclasses
from collections import Counter

import numpy as np
import pytest
from handmade_clip import FRAMES, RADIUS_M, ball_poses, make_clip
from hypothesis import given, settings, strategies as st

from track4d_ref.cameras import invert_pose, look_at
from track4d_ref.measurements import measure
from track4d_ref.presets import load_preset, load_thresholds
from track4d_ref.records import record_from_question
from track4d_ref.relations import (KINDS, NUMERIC, PHRASINGS, UNSEEN, answer_from, ask_relations, clear_cases, numeric_options,
                                   quantity, word_for)
from track4d_ref.scene_points import (points_from_boxes, points_from_depth, points_from_noisy_stereo, points_from_one_eye,
                                      scene_points, with_disparity_noise)
from track4d_ref.simulator import simulate_clip
from track4d_ref.storage import InputError
from track4d_ref.templates import LETTERS

CUTS = load_thresholds('simulator')


@pytest.fixture(scope='module')
def clip(): return make_clip()


@pytest.fixture(scope='module')
def unmasked(clip): return dataclasses.replace(clip, views=(dataclasses.replace(clip.view, instances=None),))


@pytest.fixture(scope='module')
def simulated(): return simulate_clip(11, load_preset('tiny'), domain='open', camera_program='forward', objects=3, roll_rad=0.07,
                                      height=112, width=140, rig='stereo')


# --- geometry -----------------------------------------------------------------------------------------------------------

def test_box_centroid_is_the_pose(clip):
    scene = points_from_boxes(clip)
    for frame in range(FRAMES): assert np.allclose(scene.centroid_m(1, frame), ball_poses()[frame, :3, 3])


def test_absent_objects_have_no_points(unmasked):
    scene = points_from_boxes(unmasked)
    assert scene.known(2, 2) and not scene.known(2, 3)
    with pytest.raises(InputError, match='no points of object 2 in frame 3'): scene.cloud_m(2, 3)


def test_lifted_points_lie_on_the_ball(clip):
    scene = points_from_depth(clip)
    for frame in range(FRAMES):
        radius_m = np.linalg.norm(scene.cloud_m(1, frame) - ball_poses()[frame, :3, 3], axis=-1)
        assert np.abs(radius_m - RADIUS_M).max() < 1e-5


def test_without_depth_the_boxes_answer(clip):
    blind = dataclasses.replace(clip, views=(dataclasses.replace(clip.view, depth_m=None),))
    assert scene_points(blind).origin == 'boxes' and scene_points(clip).origin == 'depth'
    with pytest.raises(InputError, match='lacks depth'): points_from_depth(blind)
    with pytest.raises(InputError, match='no depth to disturb'): with_disparity_noise(blind, 1.0, 0.3, np.random.default_rng(0))


def test_noise_of_zero_changes_nothing(clip):
    same = with_disparity_noise(clip, 0.0, 0.3, np.random.default_rng(0)).view.depth_m
    known = np.isfinite(clip.view.depth_m) & (clip.view.depth_m > 0)
    assert np.allclose(same[known], clip.view.depth_m[known], rtol=1e-5)


def test_one_eye_keeps_directions_and_scales_metres(clip):
    exact, wrong = points_from_depth(clip), points_from_one_eye(clip, np.random.default_rng(8), drift=0.0)
    ratio = quantity(wrong, 'camera_distance', 0, 6) / quantity(exact, 'camera_distance', 0, 6)
    assert abs(ratio - 1) > 0.2
    assert np.allclose(quantity(wrong, 'camera_direction', 1, 5), ratio * quantity(exact, 'camera_direction', 1, 5))
    assert np.isclose(quantity(wrong, 'object_distance', 0, 6, 1), ratio * quantity(exact, 'object_distance', 0, 6, 1), rtol=0.05)


# --- relations ----------------------------------------------------------------------------------------------------------

finite = st.floats(-5, 5)
vector = st.tuples(finite, finite, finite)

@settings(max_examples=150, deadline=None)
@given(vector, vector, st.floats(-3, 3), st.floats(-3, 3))
def test_both_pose_conventions_name_one_displacement(eye, other, roll, other_roll):
    target = np.array([7.0, 8.0, 3.0])
    w2c = np.stack([look_at(eye, target, (0, 0, 1), roll), look_at(other, target, (0, 0, 1), other_roll)])
    scene = dataclasses.replace(points_from_boxes(make_clip()), w2c=w2c)
    c2w = invert_pose(w2c)
    by_c2w = c2w[0, :3, :3].T @ (c2w[1, :3, 3] - c2w[0, :3, 3])
    assert np.allclose(quantity(scene, 'camera_direction', 0, 1), by_c2w, atol=1e-9)
    assert np.isclose(quantity(scene, 'camera_distance', 0, 1), np.linalg.norm(np.subtract(eye, other)), atol=1e-9)


def test_relations_of_the_ball_by_hand(clip):
    scene = points_from_boxes(clip)
    assert np.isclose(quantity(scene, 'object_distance', 0, 6, 1), np.hypot(1.8, 0.6))
    R = clip.view.w2c[2, :3, :3]
    assert np.allclose(quantity(scene, 'object_camera_side', 2, 6, 1), R @ (1.2, 0.4, 0))
    exact = points_from_depth(clip)
    camera = -clip.view.w2c[1, :3, :3].T @ clip.view.w2c[1, :3, 3]
    gap_m = np.linalg.norm(ball_poses()[1, :3, 3] - camera) - RADIUS_M
    assert gap_m <= quantity(exact, 'object_camera_distance', 1, 1, 1) < gap_m + 0.03


def test_relation_four_mixes_frames(clip):
    scene = points_from_boxes(clip)
    camera = -clip.view.w2c[0, :3, :3].T @ clip.view.w2c[0, :3, 3]
    expected = np.linalg.norm(scene.cloud_m(1, 6) - camera, axis=-1).min()
    assert quantity(scene, 'object_camera_distance', 0, 6, 1) == pytest.approx(expected)
    assert quantity(scene, 'object_camera_distance', 6, 6, 1) != pytest.approx(expected)


@pytest.mark.parametrize('kind,value,word', [
    ('camera_direction', (0.9, 0.1, 0.2), 'right'), ('camera_direction', (-0.9, 0.1, 0.2), 'left'), ('camera_direction', (0, -1, 0.1), 'up'),
    ('camera_direction', (0, 1, 0.1), 'down'), ('camera_direction', (0.1, 0, 1), 'forward'), ('camera_direction', (0.1, 0, -1), 'backward'),
    ('camera_direction', (0.5, 0, 0.6), None), ('camera_direction', (0.1, 0, 0), None),
    ('object_camera_change', -0.5, 'closer'), ('object_camera_change', 0.5, 'farther away'), ('object_camera_change', 0.15, None),
    ('object_camera_change', -0.01, 'its distance stays about the same'), ('object_camera_side', (-1, 0, 5), 'to the left'),
    ('object_camera_side', (0.01, 0, 5), 'neither to the left nor to the right'), ('object_camera_approach', (1, 0, -5), 'closer')])
def test_words(kind, value, word):
    assert word_for(kind, np.array(value) if np.ndim(value) else value, 0.1, 0.2) == word


# --- options ------------------------------------------------------------------------------------------------------------

@settings(max_examples=300, deadline=None)
@given(st.floats(0.01, 60), st.integers(0, 10 ** 6), st.booleans())
def test_numeric_options(true_m, seed, even):
    options = numeric_options(true_m, np.random.default_rng(seed), even)
    if options is None: return
    values = np.array([float(option) for option in options])
    assert len(values) == 4 and abs(values[0] - true_m) < 0.051 and all(len(option.split('.')[1]) == 1 for option in options)
    assert np.diff(np.sort(values)).min() >= max(0.1 * true_m, 0.1) - 1e-9
    assert (values[1:] >= 0.25 * true_m - 0.051).all() and (values[1:] <= 1.75 * true_m + 0.051).all()


def test_tiny_truths_are_not_asked():
    assert all(numeric_options(0.04, np.random.default_rng(seed)) is None for seed in range(20))


def test_the_published_recipe_leaks_and_even_ranks_do_not():
    shares = {}
    for even in (False, True):
        rng = np.random.default_rng(4)
        drawn = [numeric_options(true_m, rng, even) for true_m in rng.uniform(1, 9, 3000)]
        shares[even] = np.bincount([sorted(map(float, o)).index(float(o[0])) for o in drawn if o], minlength=4) / len([o for o in drawn if o])
    assert shares[False][1] + shares[False][2] > 0.75 and np.abs(shares[True] - 0.25).max() < 0.03


# --- questions ----------------------------------------------------------------------------------------------------------

def test_questions_are_sound_and_capped(simulated):
    asked = ask_relations(points_from_boxes(simulated), np.random.default_rng(0), per_kind=4)
    assert set(KINDS) >= {q.type for q in asked} and len({q.type for q in asked}) >= 6
    assert max(Counter(q.type for q in asked).values()) <= 4
    for q in asked:
        i, j = q.targets['pair']
        assert 0 <= i < j <= 7 and len(set(q.choices)) == 4 and q.choices[LETTERS.index(q.answer)] == q.meta['label']
        assert ('camera' in q.type.split('_')[0]) == (q.targets['object_center'] == [None, None] and not q.references)
        assert q.category == 'relation' and q.prompt.count('\n') == 5 and 'of 7' in q.text
        assert record_from_question(q, simulated.id, 'clip').answer == q.answer


def test_centres_reproduce_the_answer(simulated):
    for q in ask_relations(points_from_depth(simulated), np.random.default_rng(1), per_kind=5):
        centres = {name: q.targets[f'{name}_center'] for name in ('camera', 'object')}
        if q.type == 'camera_distance': moved = centres['camera']
        elif q.type == 'object_distance': moved = centres['object']
        else: continue
        assert np.linalg.norm(np.subtract(*moved)) == pytest.approx(q.targets['value'], abs=3e-4)


def test_the_letter_is_uniform_and_the_same_seed_asks_the_same(simulated):
    scene = points_from_boxes(simulated)
    letters = Counter(q.answer for seed in range(30) for q in ask_relations(scene, np.random.default_rng(seed), per_kind=2))
    assert min(letters.values()) > 0.15 * sum(letters.values())
    first, second = (ask_relations(scene, np.random.default_rng(5)) for _ in range(2))
    assert [q.prompt for q in first] == [q.prompt for q in second]


def test_only_moving_objects_unless_told(unmasked):
    scene, m = points_from_boxes(unmasked), measure(unmasked)
    ids = lambda moving_only: {case[2] for cases in clear_cases(scene, m, 'object_camera_distance', CUTS, moving_only).values() for case in cases}
    assert ids(True) == {1} and ids(False) == {1, 2}


def test_fewer_frames_are_counted_as_shown(simulated):
    asked = ask_relations(points_from_boxes(simulated), np.random.default_rng(0), frames=[0, 3, 7])
    assert asked and all(q.frames == (0, 3, 7) and max(q.targets['pair']) <= 2 and 'of 2' in q.text for q in asked)


def test_hidden_in_one_frame_is_an_answer():
    clip = simulate_clip(11, load_preset('tiny'), domain='open', camera_program='forward', objects=3, height=168, width=224, rig='stereo', roll_rad=0.07)
    asked = ask_relations(points_from_depth(clip), np.random.default_rng(2), per_kind=9)
    unseen = [q for q in asked if q.meta['label'] == UNSEEN]
    assert unseen and all(q.targets['value'] is None and q.targets['object_center'].count(None) == 1 for q in unseen)


def test_unknown_kind_is_refused(clip):
    with pytest.raises(InputError, match="'warp' does not exist"): ask_relations(points_from_boxes(clip), np.random.default_rng(0), kinds=('warp',))


def test_phrasings_differ():
    texts = [text for phrasings in PHRASINGS.values() for text in phrasings]
    assert len(KINDS) == 7 and len(set(texts)) == len(texts) and min(map(len, PHRASINGS.values())) >= 4


# --- whose geometry -----------------------------------------------------------------------------------------------------

def test_geometry_answers_its_own_questions(simulated):
    for scene in (points_from_boxes(simulated), points_from_depth(simulated), points_from_one_eye(simulated, np.random.default_rng(1))):
        asked = ask_relations(scene, np.random.default_rng(0), per_kind=5)
        assert [answer_from(scene, q) for q in asked] == [q.answer for q in asked]


def test_noise_costs_agreement_and_one_eye_costs_metres():
    right, total = Counter(), Counter()
    for index in range(4):
        clip = simulate_clip(3, load_preset('tiny'), index, height=56, width=84)
        for q in ask_relations(points_from_boxes(clip), np.random.default_rng(index), per_kind=4, moving_only=False):
            if q.meta['label'] == UNSEEN: continue
            for name, scene in (('exact', points_from_depth(clip)), ('poor', points_from_noisy_stereo(clip, 2.0, 0.3, np.random.default_rng(0))),
                                ('one eye', points_from_one_eye(clip, np.random.default_rng(index)))):
                right[name, q.type in NUMERIC] += answer_from(scene, q) == q.answer
            total[q.type in NUMERIC] += 1
    share = lambda name, numeric: right[name, numeric] / total[numeric]
    assert share('exact', True) > share('poor', True) and share('exact', True) > share('one eye', True) + 0.2
    assert share('exact', False) > share('poor', False)
