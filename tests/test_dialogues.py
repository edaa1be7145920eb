"""Dialogues about one thing: geometry, determinism, histories, the text form, the split and the file."""
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from handmade_clip import make_clip
from track4d_ref.cameras import transform
from track4d_ref.dialogue_sets import (HISTORY_MODES, VENUES, benchmark_entry, benchmark_plan, dialogue_from_json, dialogue_json,
                                       history, in_test, load_dialogues, other_target, save_dialogues, split_by_scene)
from track4d_ref.dialogues import (ANSWER_TURNS, PATH_ANSWER, dialogue_path_m, make_dialogue, name_target, nearest_frames, object_seen,
                                   path_turn, state_times_s, turn_labels, usable_targets)
from track4d_ref.presets import load_preset
from track4d_ref.simulator import simulate_clip
from track4d_ref.storage import InputError
from track4d_ref.trajectory_text import parse_trajectory, write_trajectory

PRESET = load_preset('tiny', ('resolution=56', 'objects_min=3'))


@pytest.fixture(scope='module')
def clip():
    return simulate_clip(9, PRESET, 2, domain='open', rig='ring', smooth=False)


@pytest.fixture(scope='module')
def pair(clip):
    return [make_dialogue(clip, np.random.default_rng(4), target=number) for number in (1, 2)]


# --- geometry ---------------------------------------------------------------------------------------------------------

def test_world_frame_is_the_first_camera():
    clip = make_clip()
    path = dialogue_path_m(clip, clip.objects[0], clip.times_s)
    assert np.allclose(path, transform(clip.view.w2c[0], clip.objects[0].centers_m)) and (path[:, 2] > 0).all()
    between = dialogue_path_m(clip, clip.objects[0], np.array([0.05]))
    assert np.allclose(between, path[:2].mean(0))


def test_absent_objects_have_no_position():
    clip = make_clip()
    path = dialogue_path_m(clip, clip.objects[1], clip.times_s)
    assert np.isnan(path[3]).all() and np.isfinite(np.delete(path, 3, 0)).all()
    assert np.isnan(dialogue_path_m(clip, clip.objects[1], np.array([0.25, 0.35]))).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 4), st.integers(2, 3), st.integers(2, 9))
def test_moments_are_equally_spaced_with_both_ends(start, length, count):
    clip = make_clip()
    times = state_times_s(clip, (start, start + length), count)
    assert len(times) == count and times[0] == pytest.approx(start / 10) and times[-1] == pytest.approx((start + length - 1) / 10)
    assert np.abs(np.diff(times) - np.diff(times).mean()).max() <= 0.0101


def test_seen_pixels_and_labels(clip):
    item = clip.objects[0]
    seen = object_seen(clip, item)
    assert seen.shape == (2, 8) and seen[1, 3] in (0, (clip.views[1].instances[3] == 1).sum())
    moving = make_clip()
    times = state_times_s(moving, (0, 7))
    assert turn_labels(moving, moving.objects[0], times)['viewpoint_change']                       # the camera walks an arc
    assert not turn_labels(make_clip(moving=False), moving.objects[0], times[:2])['viewpoint_change']
    assert nearest_frames(moving, np.array([0.0, 0.24, 0.26])).tolist() == [0, 2, 3]


# --- dialogues --------------------------------------------------------------------------------------------------------

def test_same_generator_same_dialogue(clip):
    one, two = (dialogue_json(make_dialogue(clip, np.random.default_rng(7))) for _ in range(2))
    assert one == two != dialogue_json(make_dialogue(clip, np.random.default_rng(8)))


@pytest.mark.parametrize('seed', range(12))
def test_shape_of_a_dialogue(clip, seed):
    dialogue = make_dialogue(clip, np.random.default_rng(seed))
    assert 3 <= len(dialogue.path_turns) <= 4 and len(dialogue.path_turns) <= len(dialogue.turns) <= 6
    assert dialogue.turns[0].returns_path and dialogue.caption in dialogue.turns[0].question
    item = clip.object(dialogue.target)
    for turn in dialogue.turns[1:]: assert dialogue.caption not in turn.question
    for turn in dialogue.turns:
        assert turn.returns_path or (turn.kind in ANSWER_TURNS and len(turn.times_s) == 0)
        if not turn.returns_path: continue
        assert turn.answer == PATH_ANSWER and turn.xyz_m.shape == (4, 3) and f'{turn.times_s[-1]:.2f} s' in turn.question
        assert np.allclose(turn.xyz_m, dialogue_path_m(clip, item, turn.times_s))


def test_long_clips_are_asked_about_a_segment():
    clip = simulate_clip(3, load_preset('tiny', ('resolution=56', 'frames=24')), 0, domain='open', smooth=False)
    dialogue = make_dialogue(clip, np.random.default_rng(0), long=True)
    assert dialogue.long and dialogue.segment[1] - dialogue.segment[0] == 8
    for turn in dialogue.turns: assert dialogue.segment[0] <= turn.segment[0] < turn.segment[1] <= dialogue.segment[1]


def test_targets_without_a_unique_name_are_pointed_at(clip):
    import dataclasses
    twins = dataclasses.replace(clip, objects=tuple(dataclasses.replace(o, caption='car', label='car') for o in clip.objects))
    name = name_target(twins, twins.objects[0])
    assert name.startswith('the car at (0.') and 'first view at' in name
    nobody = dataclasses.replace(clip, objects=tuple(dataclasses.replace(o, present=np.zeros(8, bool)) for o in clip.objects))
    assert usable_targets(nobody, (0, 8)) == [] and make_dialogue(nobody, np.random.default_rng(0)) is None


def test_answers_are_true(clip):
    for seed in range(20):
        rng, item = np.random.default_rng(seed), clip.objects[seed % 3]
        nearer = ANSWER_TURNS['nearer'](clip, item, (0, 8), rng)
        centre = -clip.view.w2c[[0, 7], :3, :3].mT @ clip.view.w2c[[0, 7], :3, 3:]
        away = np.linalg.norm(centre[..., 0] - item.centers_m[[0, 7]], axis=1)
        if nearer: assert (nearer.answer == 'Yes.') == ((away[1] < away[0]) == ('nearer' in nearer.question))
        travelled = ANSWER_TURNS['travelled'](clip, item, (0, 8), rng)
        moved = np.linalg.norm(item.centers_m[7] - item.centers_m[0])
        if travelled: assert travelled.answer == ('Less than 0.5 m.' if moved < 0.5 else 'Between 0.5 m and 2 m.' if moved < 2 else 'More than 2 m.')


# --- text -------------------------------------------------------------------------------------------------------------

@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-99, 99), min_size=12, max_size=12))
def test_written_is_read_back(values):
    xyz, times = np.array(values).reshape(4, 3), np.array([0.0, 0.33, 0.66, 1.0])
    back = parse_trajectory(f'Well: {write_trajectory(times, xyz)}.')
    assert back.readable and np.abs(back.xyz_m - xyz).max() <= 0.0051 and np.allclose(back.times_s, times)


GOOD = '0.00 s: (1.00, 2.00, 3.00); 0.50 s: (1, 2, 3); 1.00 s: (-1.5, 0.0, 4); 1.5 s: (1, 1, 1)'

@pytest.mark.parametrize('text, problem', [
    (GOOD, ''), (GOOD.replace('; ', ' '), ''), (GOOD.replace(' s:', 's :'), ''), (f'The path is {GOOD}, I think.', ''),
    ('', 'no state'), ('Yes.', 'no state'), ('[TRK]', 'no state'), (GOOD + '; ' + GOOD, '8 states'), (GOOD[:60], '2 states'),
    (GOOD.replace('1.5 s', '0.5 s'), 'do not grow'), (GOOD.replace('(1, 2, 3)', '(1, 2)'), '3 states'),
    (GOOD.replace('2.00', 'nan'), '3 states'), (GOOD.replace('2.00', '1e5'), '3 states'), (GOOD.replace('1.00, 2', '1,00, 2'), '3 states'),
    (GOOD.replace('3.00', '3.00 m'), '3 states'), (GOOD.replace('1.00, 2', f'{"9" * 400}, 2'), 'too large'), ('(1,2,3)' * 4, 'no state')])
def test_parser_table(text, problem):
    parsed = parse_trajectory(text)
    assert (problem in parsed.problem) if problem else parsed.readable
    assert parsed.readable == (parsed.xyz_m is not None)


# --- histories --------------------------------------------------------------------------------------------------------

def test_histories(pair):
    mine, other = pair
    assert history(mine, 3, 'no') == () and history(mine, 0, 'gold') == ()
    gold, own = history(mine, 3, 'gold'), history(mine, 3, 'self', ('a', 'b', 'c', 'd'))
    assert [m['content'] for m in gold[::2]] == [m['content'] for m in own[::2]] == [t.question for t in mine.turns[:3]]
    assert [m['content'] for m in own[1::2]] == ['a', 'b', 'c'] and gold[1]['content'] == PATH_ANSWER
    assert [m['role'] for m in gold] == ['user', 'assistant'] * 3
    text = history(mine, 1, 'gold', as_text=True)[1]['content']
    assert parse_trajectory(text).readable
    wrong = history(mine, 2, 'corrupted', other=other)
    assert other.caption in wrong[0]['content'] and mine.caption not in wrong[0]['content']
    assert other_target(mine, [mine, other], np.random.default_rng(0)) is other and other_target(mine, [mine], np.random.default_rng(0)) is None


def test_history_mistakes_are_named(pair):
    with pytest.raises(InputError, match="'own' does not exist"): history(pair[0], 1, 'own')
    with pytest.raises(InputError, match='needs another'): history(pair[0], 1, 'corrupted')
    with pytest.raises(InputError, match='1 own answers before turn 2'): history(pair[0], 2, 'self', ('x',))
    assert len(HISTORY_MODES) == 4


# --- sets -------------------------------------------------------------------------------------------------------------

def test_split_never_cuts_a_scene(pair):
    import dataclasses
    many = [dataclasses.replace(pair[n % 2], scene=f'scene {n // 3}', id=str(n)) for n in range(300)]
    train, test = split_by_scene(many, seed=3)
    assert len(train) + len(test) == 300 and 30 < len(test) < 100
    assert not {d.scene for d in train} & {d.scene for d in test}
    assert split_by_scene(many[::-1], seed=3)[1] == test[::-1] and in_test('a', 1) == in_test('a', 1)


def test_benchmark_has_the_published_counts():
    plan = benchmark_plan()
    assert len(plan) == 526 and sum(long for _, long in plan) == 98
    assert {v: (plan.count((v, False)), plan.count((v, True))) for v in VENUES} == {'apidis': (62, 15), 'kitti': (316, 67), 'wildtrack': (50, 16)}


@pytest.mark.parametrize('number, views, long', [(3, 2, False), (70, 2, True), (100, 1, False), (470, 3, False)])
def test_benchmark_entries(number, views, long):
    small = load_preset('tiny', ('resolution=56', 'frames=6'))
    clip, dialogue = benchmark_entry(number, small)
    again = benchmark_entry(number, small)
    assert len(clip.views) == views and dialogue.long == long and clip.frames_count == (18 if long else 6)
    assert dialogue_json(again[1]) == dialogue_json(dialogue) and np.array_equal(again[0].view.frames, clip.view.frames)


def test_file_round_trip(pair, tmp_path):
    save_dialogues(tmp_path / 'd.jsonl', pair)
    back = load_dialogues(tmp_path / 'd.jsonl')
    assert [dialogue_json(d) for d in back] == [dialogue_json(d) for d in pair]
    assert back[0].turns[0].xyz_m.shape == (4, 3) and json.loads((tmp_path / 'd.jsonl').read_text().splitlines()[0])['id'] == pair[0].id
    holes = dialogue_json(pair[0])
    holes['turns'][0]['xyz_m'][1] = [None, None, None]
    assert np.isnan(dialogue_from_json(holes).turns[0].xyz_m[1]).all()


@pytest.mark.parametrize('text', ['{"turns": []}', 'not json', '[1]', '{"turns": [{"segment": [0, 1]}]}', '{"turns": 3}'])
def test_broken_files_are_named(tmp_path, text):
    (tmp_path / 'd.jsonl').write_text('\n' + text + '\n')
    with pytest.raises(InputError, match='d.jsonl, line 2'): load_dialogues(tmp_path / 'd.jsonl')
    with pytest.raises(InputError, match='cannot be read'): load_dialogues(tmp_path / 'missing.jsonl')


# --- real clips -------------------------------------------------------------------------------------------------------

def test_kitti_dialogues(data_root):
    from track4d_ref.kitti import read_kitti_tracking
    made = []
    for start in range(0, 40, 10):
        clip = read_kitti_tracking(data_root / 'kitti_tracking', 1, start, start + 10)
        made.append(make_dialogue(clip, np.random.default_rng(start)))
    good = [d for d in made if d]
    print(f'KITTI 0001: {len(good)} of {len(made)} windows give a dialogue; first: {good[0].turns[0].question if good else None}')
    assert len(good) >= 3
    for dialogue in good:
        path = dialogue.turns[0].xyz_m
        assert np.isfinite(path).all() and (path[:, 2] > 0).any() and np.linalg.norm(np.diff(path, axis=0), axis=1).max() < 40


def test_wildtrack_dialogues(data_root):
    from track4d_ref.wildtrack import read_wildtrack
    clip = read_wildtrack(data_root / 'wildtrack', 0, 12)
    made = [make_dialogue(clip, np.random.default_rng(seed)) for seed in range(5)]
    steps = [np.linalg.norm(np.diff(d.turns[0].xyz_m, axis=0), axis=1).max() for d in made if d]
    print(f'WildTrack: {len(steps)} of 5 dialogues, largest step between states {max(steps, default=0):.2f} m')
    assert len(steps) == 5 and len(clip.views) == 7 and max(steps) < 10
