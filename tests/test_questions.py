"The question engine on hand-made clips with known answers: every type, every form, references, tracks, determinism."
import dataclasses
import re

import numpy as np
import pytest

from track4d_ref.cameras import intrinsics, look_at, pose_from, project, rotation_about
from track4d_ref.clips import Clip, SceneObject, View, check_clip
from track4d_ref.facts import EQUALLY, NEITHER, movement_options
from track4d_ref.measurements import measure, random_segment, spread_frames
from track4d_ref.presets import load_thresholds
from track4d_ref.questions import QUESTION_TYPES, Question, Style, ask, ask_all, phrase_fact, same_question
from track4d_ref.references import CIRCLE_COLORS, draw_references, object_pixel, refer
from track4d_ref.storage import InputError
from track4d_ref.templates import CLAIMS, PHRASINGS, WRAPPERS, asked, base_form, claim_question
from track4d_ref.track_questions import parse_track, track_target, write_track

H, W, T = 90, 150, 7
K = intrinsics(fx=120.0, fy=100.0, cx=70.0, cy=48.0)
UP = np.array([0.0, 0, 1])
CUTS = load_thresholds('default')
EYE, TARGET = np.array([0.0, -8, 1.5]), np.array([0.0, 0, 1.0])
CAPTIONS = Style(('choice',), ('caption',))


def path(start, shift=(0, 0, 0)):
    return np.asarray(start, float) + np.linspace(0, 1, T)[:, None] * np.asarray(shift, float)


def thing(id, caption, centers_m, yaw_deg=0.0, size=(0.8, 0.5, 0.6), agent=False, label='box'):
    yaw = np.deg2rad(np.broadcast_to(yaw_deg, T) if np.ndim(yaw_deg) else np.linspace(0, yaw_deg, T))
    rotations = np.stack([rotation_about(UP, angle) for angle in yaw])
    return SceneObject(id, label, caption, np.array(size), pose_from(rotations, centers_m), np.ones(T, bool), agent)


def scene(objects, w2c=None, frames=True, masks=True):
    "A clip whose masks are discs around the projected centres, the nearest in front; background 12 m away."
    w2c = np.broadcast_to(look_at(EYE, TARGET, UP), (T, 4, 4)).copy() if w2c is None else w2c
    depth, instances = np.full((T, H, W), 12, np.float32), np.zeros((T, H, W), np.int32)
    rows, columns = np.mgrid[:H, :W] + 0.5
    for item in objects:
        uv, z = project(K, w2c, item.centers_m[:, None])
        for t in range(T):
            if z[t, 0] <= 0: continue
            disc = np.hypot(columns - uv[t, 0, 0], rows - uv[t, 0, 1]) < 45 / z[t, 0]
            front = disc & (z[t, 0] < depth[t])
            depth[t][front], instances[t][front] = z[t, 0], item.id
    pictures = np.full((T, H, W, 3), 90, np.uint8) + (instances[..., None] * 40).astype(np.uint8)
    view = View('front', K, w2c, H, W, pictures if frames else None, depth if masks else None, instances if masks else None)
    clip = Clip('hand-made', (view,), tuple(objects), np.arange(T) / 5.0, UP, 'test', 'none')
    check_clip(clip)
    return clip


def moving_camera(shift_camera=(0, 0, 0), pan_deg=0.0, tilt_deg=0.0, roll_deg=0.0):
    "A camera path: translation in first-camera axes and pan right, tilt up, roll clockwise, all linear in time."
    first, poses = look_at(EYE, TARGET, UP, roll_rad=0.2), []
    for part in np.linspace(0, 1, T):
        pan, tilt, roll = np.deg2rad([pan_deg, tilt_deg, roll_deg]) * part
        turn = rotation_about((0, 1, 0), pan) @ rotation_about((1, 0, 0), tilt) @ rotation_about((0, 0, 1), roll)
        poses.append(pose_from(turn.T, -turn.T @ (np.asarray(shift_camera, float) * part)) @ first)
    return np.stack(poses)


def label(clip, kind, rng=0, style=CAPTIONS):
    question = ask(clip, kind, np.random.default_rng(rng), CUTS, style)
    return question and question.meta['label']


@pytest.mark.parametrize('motion,expected', [
    (dict(), 'stays still'), (dict(shift_camera=(0, 0, 2)), 'moves forward'), (dict(shift_camera=(0, 0, -2)), 'moves backward'),
    (dict(shift_camera=(-2, 0, 0)), 'moves left'), (dict(shift_camera=(0, -2, 0)), 'moves up'), (dict(shift_camera=(0, 1, 0)), 'moves down'),
    (dict(pan_deg=25), 'pans right'), (dict(pan_deg=-25), 'pans left'), (dict(tilt_deg=20), 'tilts up'), (dict(roll_deg=20), 'rolls clockwise'),
    (dict(roll_deg=-20), 'rolls counterclockwise'), (dict(shift_camera=(1.5, 0, 2)), 'moves forward and right'),
    (dict(shift_camera=(1.5, 0, -2), pan_deg=15), 'moves backward and right, pans right'),
    (dict(pan_deg=6), None), (dict(shift_camera=(0, 0, 0.5)), None), (dict(shift_camera=(0.6, 0, 2)), None),
    (dict(shift_camera=(1.5, -1.5, 2), pan_deg=15), None)])
def test_camera_movement(motion, expected):
    assert label(scene([], moving_camera(**motion)), 'camera_movement') == expected


def test_out_and_back_is_not_still():
    w2c = moving_camera((0, 0, 3))
    there_and_back = np.concatenate([w2c[:4], w2c[2::-1]])
    assert label(scene([], there_and_back), 'camera_movement') is None


@pytest.mark.parametrize('shift,expected', [((2, 0, 0), 'moves right'), ((0, 2.5, 0), 'moves forward'), ((0, -2.5, 0), 'moves backward'),
                                            ((0, 0, 1.5), 'moves up'), ((-2, -2, 0), 'moves backward and left'), ((0.1, 0, 0), None)])
def test_object_direction_is_told_by_the_first_camera_however_the_camera_moves(shift, expected):
    objects = [thing(3, 'grey box', path((0, 1, 1), shift))]
    steady = np.broadcast_to(look_at((0, -8, 1), (0, 0, 1), UP), (T, 4, 4))
    panning = np.stack([look_at((0, -8, 1), (a, 0, 1), UP) for a in np.linspace(0, 2, T)])
    for w2c in (steady, panning): assert label(scene(objects, w2c.copy()), 'object_direction') == expected


def test_object_rotation_from_above():
    assert label(scene([thing(1, 'box', path((0, 0, 1)), 90)]), 'object_rotation') == 'counterclockwise'
    assert label(scene([thing(1, 'box', path((0, 0, 1)), -300)]), 'object_rotation') == 'clockwise'
    assert label(scene([thing(1, 'ball', path((0, 0, 1)), 90, label='ball')]), 'object_rotation') is None
    assert label(scene([thing(1, 'box', path((0, 0, 1)), 5)]), 'object_rotation') is None


def test_agent_motion_in_its_own_frame():
    backing = thing(1, 'car', path((-1, 0, 1), (2, 0, 0)), np.full(T, 180.0), agent=True)     # faces -x, goes +x
    assert label(scene([backing]), 'agent_motion') == 'moves backward'
    turning = thing(1, 'car', path((-1, 0, 1)), 60, agent=True)
    assert label(scene([turning]), 'agent_motion') == 'turns left'
    assert label(scene([dataclasses.replace(backing, agent=False)]), 'agent_motion') is None


def test_distance_changes():
    coming = scene([thing(1, 'box', path((0, 3, 1), (0, -5, 0)))])
    assert label(coming, 'camera_object_distance_change') == 'decreases'
    pair = [thing(1, 'box', path((-2, 0, 1))), thing(2, 'can', path((-1, 0, 1), (3, 0, 0)))]
    assert label(scene(pair), 'object_object_distance_change') == 'increases'
    still = [pair[0], thing(2, 'can', path((1, 0, 1)))]
    assert label(scene(still), 'object_object_distance_change') is None       # nothing moves: nothing to ask
    assert label(scene(still), 'camera_object_distance_change') == 'stays constant'


def test_moved_distance_has_four_answers():
    fast, slow, rest = (2.4, 0, 0), (0.9, 0, 0), (0, 0, 0)
    def answer(a, b): return label(scene([thing(1, 'box', path((-2, 0, 1), a)), thing(2, 'can', path((-1, 1, 2), b))]), 'moved_distance')
    assert answer(fast, slow) == 'the box' and answer(rest, slow) == 'the can'
    assert answer(fast, fast) == EQUALLY and answer(rest, rest) == NEITHER
    assert answer(fast, (1.9, 0, 0)) is None


def test_depth_and_object_distance():
    objects = [thing(1, 'box', path((-1, -2, 1))), thing(2, 'can', path((1, 3, 1))), thing(4, 'cup', path((2, 3.4, 1)))]
    clip = scene(objects)
    for seed in range(12):
        question = ask(clip, 'depth', np.random.default_rng(seed), CUTS, CAPTIONS)
        if 'the box' in question.choices: assert question.meta['label'] == 'the box'
        question = ask(clip, 'object_object_distance', np.random.default_rng(seed), CUTS, CAPTIONS)
        near = {1: 'the can', 2: 'the cup', 4: 'the can'}[question.references[2]['object']]
        assert question.meta['label'] == near and question.text.startswith('In frame ')


def test_two_frames_take_each_object_where_it_is_then():
    crossing = [thing(1, 'box', path((-1, -4, 1), (0, 8, 0))), thing(2, 'can', path((1, 4, 1), (0, -8, 0)))]
    clip, m = scene(crossing), measure(scene(crossing))
    for seed in range(15):
        question = ask(clip, 'multiview_depth', np.random.default_rng(seed), CUTS, CAPTIONS)
        if question is None: continue
        distances = [m.distance_m[record['object'] - 1, record['frame']] for record in question.references]
        near = question.references[int(np.argmin(distances))]
        assert f"{'box' if near['object'] == 1 else 'can'} in frame {near['frame']}" in question.meta['label']
        assert question.references[0]['frame'] != question.references[1]['frame']


def test_yes_no_claims_are_true_exactly_when_the_answer_says_so():
    clip, answers = scene([], moving_camera(shift_camera=(0, 0, 2))), []
    for seed in range(120):
        question = ask(clip, 'camera_movement', np.random.default_rng(seed), CUTS, Style(('yes_no',)))
        assert (question.meta['claim'] == 'moves forward') == (question.answer == 'Yes')
        assert base_form(question.meta['claim']) in question.text or question.meta['claim'] in question.text
        answers.append(question.answer)
    assert 40 < answers.count('Yes') < 80


def test_choices_are_shuffled_and_hold_the_truth_once():
    clip, letters = scene([], moving_camera(pan_deg=20)), []
    for seed in range(160):
        question = ask(clip, 'camera_movement', np.random.default_rng(seed), CUTS, Style(('choice',)))
        assert question.choices.count('pans right') == 1 and len(set(question.choices)) == 4
        assert question.choices['ABCD'.index(question.answer)] == 'pans right'
        letters.append(question.answer)
    assert min(letters.count(letter) for letter in 'ABCD') > 20


def test_short_vocabulary_refuses_combined_movements():
    both = scene([], moving_camera(shift_camera=(1.5, 0, 2)))
    one = scene([], moving_camera(shift_camera=(0, 0, 2)))
    short = Style(('free',), ('caption',), combined=False)
    assert ask(both, 'camera_movement', np.random.default_rng(0), CUTS, short) is None
    question = ask(one, 'camera_movement', np.random.default_rng(0), CUTS, short)
    assert question.answer == 'moves forward' and question.choices == ()


def test_ambiguous_captions_are_never_used_and_pixels_lie_on_the_object():
    clip = scene([thing(1, 'box', path((-1, -2, 1))), thing(2, 'box', path((1, 3, 1)))])
    assert ask(clip, 'depth', np.random.default_rng(0), CUTS, CAPTIONS) is None
    question = ask(clip, 'depth', np.random.default_rng(0), CUTS, Style(('choice',), ('caption', 'pixel')))
    for record in question.references:
        x, y = record['uv']
        assert record['mode'] == 'pixel' and f'({x:.3f}, {y:.3f})' in ''.join(question.choices)
        assert clip.view.instances[record['frame']][int(y * H), int(x * W)] == record['object']


def test_circles_are_drawn_on_a_copy_around_the_object():
    clip = scene([thing(1, 'box', path((-1, -2, 1))), thing(2, 'can', path((1, 3, 1)))])
    before = clip.view.frames.copy()
    question = ask(clip, 'depth', np.random.default_rng(4), CUTS, Style(('choice',), ('circle',)))
    drawn = draw_references(clip.view.frames, question.references)
    assert (clip.view.frames == before).all() and len({record['color'] for record in question.references}) == 2
    for record in question.references:
        ring = (drawn[record['frame']] == CIRCLE_COLORS[record['color']]).all(-1)
        rows, columns = np.nonzero(ring)
        assert len(rows) > 20 and abs(columns.mean() + 0.5 - record['uv'][0] * W) < 8
        assert not (ring & (clip.view.instances[record['frame']] == record['object']))[rows, columns].any()


def test_clips_without_masks_or_pictures_can_be_asked_too():
    objects = [thing(1, 'box', path((-1, -3, 1), (0, 4, 0))), thing(2, 'can', path((1, 3, 1)))]
    bare = scene(objects, moving_camera(shift_camera=(1, 0, 0)), frames=False, masks=False)
    questions = ask_all(bare, np.random.default_rng(0), style=Style(modes=('caption', 'circle')))
    assert {'depth', 'object_direction', 'true_motion_tracking'} <= {question.type for question in questions}
    assert all(record['mode'] == 'caption' for question in questions for record in question.references)


def test_the_same_generator_asks_the_same_and_nothing_twice():
    objects = [thing(1, 'box', path((-2, 0, 1), (2, 0, 0)), 90), thing(2, 'can', path((1, 2, 1))), thing(5, 'cup', path((2, -1, 1)))]
    clip = scene(objects, moving_camera(shift_camera=(0, 0, 1.5)))
    first, second = (ask_all(clip, np.random.default_rng(7), per_type=3) for _ in range(2))
    assert first == second and len(first) > 12
    assert len({same_question(question) for question in first}) == len(first)
    assert first != ask_all(clip, np.random.default_rng(8), per_type=3)


def test_frames_of_a_segment_count_from_zero():
    clip = scene([thing(1, 'box', path((0, 0, 1), (2, 0, 0)))])
    question = ask(clip, 'visual_tracking', np.random.default_rng(1), CUTS, CAPTIONS, frames=(2, 4, 5, 6))
    assert question.frames == (2, 4, 5, 6) and max(question.targets['frames']) <= 3
    with pytest.raises(InputError, match='frames'): ask(clip, 'depth', np.random.default_rng(1), CUTS, frames=(3, 9))
    with pytest.raises(InputError, match='does not exist'): ask(clip, 'smell', np.random.default_rng(1), CUTS)


def test_tracks_of_a_static_point_and_of_a_static_camera():
    box = thing(2, 'box', path((0, 0, 1)))
    panning = np.stack([look_at(EYE, TARGET + (a, 0, 0), UP) for a in np.linspace(0, 1, T)])
    for seed in range(10):
        target = track_target(measure(scene([box], panning)), CUTS, np.random.default_rng(seed), True)
        assert target is None or np.ptp(target.xy, axis=0).max() < 1e-9          # true motion of what stands still
    moving = measure(scene([thing(2, 'box', path((-1, 0, 1), (2, 0, 0)))]))
    for seed in range(10):
        visual, true = (track_target(moving, CUTS, np.random.default_rng(seed), flag) for flag in (False, True))
        assert (visual is None) == (true is None)
        if visual: assert np.allclose(visual.xy, true.xy) and visual.answer == true.answer


def test_true_motion_against_a_projection_by_hand():
    shift = np.array([2.0, 0, 0])
    w2c = moving_camera(shift_camera=(0, 0, 2), pan_deg=8)
    clip = scene([thing(2, 'box', path((-1, 0, 1), shift))], w2c)
    target = next(t for seed in range(60) if (t := track_target(measure(clip), CUTS, np.random.default_rng(seed), True)) and t.row == 0)
    pixel = np.array(target.query) * (W, H)
    depth = clip.view.depth_m[target.reference][int(pixel[1]), int(pixel[0])]
    pixel = np.floor(pixel) + 0.5
    camera = np.array([(pixel[0] - K[0, 2]) / K[0, 0] * depth, (pixel[1] - K[1, 2]) / K[1, 1] * depth, depth])
    rotation, offset = w2c[target.reference][:3, :3], w2c[target.reference][:3, 3]
    world = rotation.T @ (camera - offset)
    for frame, xy in zip(target.frames, target.xy):
        moved = rotation @ (world + shift * (frame - target.reference) / (T - 1)) + offset
        by_hand = np.array([K[0, 0] * moved[0] / moved[2] + K[0, 2], K[1, 1] * moved[1] / moved[2] + K[1, 2]]) / (W, H)
        assert np.allclose(by_hand, xy, atol=1e-6)


TRACK_TABLE = [
    ('frame 3: (0.412, 0.587) visible', True), ('frame 17: (0.412, 0.587) visible; frame 3: (0.401, 0.560) occluded', True),
    ('frame 0: (1.000, 0.000) occluded', True), ('frame 3: (0.41, 0.587) visible', False), ('frame 3: (0.412, 0.587)', False), ('', False),
    ('frame 3: (0.412, 0.587) visible;', False), ('frame 3: (0.412, 0.587) Visible', False), ('frame -3: (0.412, 0.587) visible', False),
    ('frame 3: (1.412, 0.587) visible', False), ('frame 3: (nan, 0.587) visible', False), ('frame 3: (0.412, 0.587) visible\n', False)]


@pytest.mark.parametrize('text,valid', TRACK_TABLE)
def test_track_grammar(text, valid):
    if not valid:
        with pytest.raises(InputError): parse_track(text)
    else:
        assert write_track(*parse_track(text)) == text


def test_track_writer_rounds_half_to_even_and_refuses_the_outside():
    assert write_track([1], [(0.0625, 0.1875)], [True]) == 'frame 1: (0.062, 0.188) visible'
    for outside in ((-0.001, 0.5), (0.5, 1.2), (np.nan, 0.5)):
        with pytest.raises(InputError): write_track([1], [outside], [True])


def test_templates_are_complete():
    for name, phrasings in PHRASINGS.items():
        assert len(set(phrasings)) >= 8
        assert len({frozenset(re.findall(r'{(\w+)}', text)) for text in phrasings}) == 1
        assert name in CLAIMS or QUESTION_TYPES[name].category == 'tracking'
    assert len(set(WRAPPERS)) >= 8 and all(('{asked}' in text) != ('{stated}' in text) for text in WRAPPERS)
    for wrapper in range(len(WRAPPERS)):
        text = claim_question('depth', wrapper, option='the cup', other='the pan')
        assert text.endswith('?') and text[0].isupper() and '{' not in text
    assert asked('the camera', 'moves left, pans right') == 'does the camera move left, pan right'


def test_option_sets_are_symmetric():
    rng, singles = np.random.default_rng(0), [sign * np.eye(6, dtype=int)[axis] for axis in range(6) for sign in (-1, 1)]
    for signs in singles + [np.array([1, 0, -1, 0, 0, 0]), np.array([1, 0, -1, 1, 0, 0])]:
        for _ in range(10):
            options = movement_options(signs, range(6), rng)
            assert len(set(options)) == 4 and 'stays still' not in options
    assert 'stays still' in movement_options(np.zeros(6, int), range(6), rng)


def test_segments():
    rng = np.random.default_rng(0)
    assert spread_frames(0, 40, 5).tolist() == [0, 10, 20, 29, 39] and spread_frames(4, 7, 9).tolist() == [4, 5, 6]
    for _ in range(50):
        frames = random_segment(23, 6, rng)
        assert len(frames) == 6 and (np.diff(frames) > 0).all() and 0 <= frames[0] and frames[-1] < 23


def test_pixel_is_on_a_ring_shaped_mask():
    clip = scene([thing(1, 'box', path((0, 0, 1)))])
    instances = clip.view.instances.copy()
    rows, columns = np.nonzero(instances[0])
    middle = np.hypot(rows - rows.mean(), columns - columns.mean()) < 3
    instances[0][rows[middle], columns[middle]] = 0
    ring = dataclasses.replace(clip, views=(dataclasses.replace(clip.view, instances=instances),))
    u, v = object_pixel(measure(ring), 0, 0)
    assert instances[0][int(v), int(u)] == 1
    assert refer(measure(ring), 0, 0, 'pixel', np.random.default_rng(0))[0].startswith('the object at (0.')
