"What the question engine gets out of each real sample."
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from track4d_ref.presets import load_thresholds
from track4d_ref.questions import QUESTION_TYPES, ask_all
from track4d_ref.readers import source_clips

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
