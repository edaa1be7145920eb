"What the question engine gets out of each real sample."
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from small_sources import write_kitti, write_sevenscenes, write_tum
from track4d_ref.clips import load_clip
from track4d_ref.kitti import read_kitti_tracking
from track4d_ref.presets import load_thresholds
from track4d_ref.questions import NEEDS_WORLD, QUESTION_TYPES, ask_all
from track4d_ref.readers import convert_source, source_clips
from track4d_ref.rgbd import read_sevenscenes, read_tum
from track4d_ref.standard import pictured

DATA = Path(os.environ.get('TRACK4D_DATA', 'absent'))
# source → (sample, which clip, question types it must yield)
SAMPLES = {
    'kitti': ('kitti_tracking', 'kitti_0001_000000', {'camera_movement', 'camera_object_distance_change', 'visual_tracking', 'true_motion_tracking'}),
    'shift': ('shift_sample', None, {'depth', 'object_object_distance'}),                     # a single frame: nothing moves
    'hot3d': ('hot3d_sample', 'hot3d_hot3d_sample_Quest3_P0002_273c2819', {'depth', 'object_object_distance'}),
    'kubric': ('kubric_scenes', None, {'object_direction', 'moved_distance', 'visual_tracking', 'true_motion_tracking'}),
    'wildtrack': ('wildtrack', None, {'agent_motion', 'moved_distance', 'multiview_depth'}),
}


@pytest.mark.parametrize('source', SAMPLES)
def test_sample_yields_questions(source):
    sample, wanted, expected = SAMPLES[source]
    if not (DATA / sample).is_dir(): pytest.skip(f'TRACK4D_DATA has no {sample}')
    read = next(read for name, read in source_clips(source, DATA / sample, 12) if wanted in (None, name))
    clip = read()
    questions = ask_all(clip, np.random.default_rng(0), per_type=2, thresholds=load_thresholds(clip.source))
    counts = Counter(question.type for question in questions)
    print(source, {name: counts[name] for name in QUESTION_TYPES})
    assert expected <= set(counts)


def test_a_clip_without_objects_or_poses_is_asked_only_what_is_known(tmp_path):
    write_sevenscenes(tmp_path / 's')
    bare = read_sevenscenes(tmp_path / 's')
    assert not bare.objects and {question.type for question in ask_all(bare, np.random.default_rng(0), thresholds=load_thresholds('7scenes'))} <= {'camera_movement'}
    root = write_kitti(tmp_path / 'k')
    (root / 'oxts/0000.txt').unlink()
    clip = read_kitti_tracking(root, 0)
    assert not clip.meta['camera_poses_known']
    types = {question.type for seed in range(20) for question in ask_all(clip, np.random.default_rng(seed), thresholds=load_thresholds('kitti'))}
    assert types and not types & NEEDS_WORLD, types


def test_moments_without_a_picture_can_be_left_out(tmp_path):
    folder = write_tum(tmp_path / 't')
    (folder / 'rgb/2.png').unlink()
    assert pictured(read_tum(folder)).times_s.round(3).tolist() == [0, 0.1, 0.3]
    report = convert_source('tum', folder, tmp_path / 'out', only_pictured=True)
    assert load_clip(tmp_path / 'out' / report['written'][0]).view.frame_valid.all()
