"Shards: resumable, order-free, refused when mixed."
import shutil

import numpy as np
import pytest

from track4d_ref.clips import save_clip
from track4d_ref.questions import Style
from track4d_ref.records import read_records
from track4d_ref.shards import Plan, clip_generator, clip_records, find_clips, shard_jobs, write_question_shards, write_shard
from track4d_ref.storage import InputError
from test_questions import moving_camera, path, scene, thing


@pytest.fixture
def folder(tmp_path):
    for n in range(7):
        objects = [thing(1, 'box', path((-2, 0, 1), (2 - n / 3, 0, 0)), 90), thing(2, 'can', path((1, 2, 1))), thing(5, 'cup', path((2, -1, 1)))]
        save_clip(scene(objects, moving_camera(shift_camera=(0, 0, 1.5 + n / 7))), tmp_path / 'data/sub' / f'clip_{n}')
    return tmp_path / 'data'


PLAN = Plan(seed=5, clips_per_shard=3, slack=3)


def contents(folder): return {path.name: path.read_bytes() for path in folder.glob('questions_*.jsonl')}


def test_resume_order_and_workers_change_no_byte(folder, tmp_path):
    shards = write_question_shards(folder, PLAN)
    first = contents(folder)
    assert len(shards) == 3 == len(first) and all(read_records(path) for path in shards)
    shards[1].unlink()
    assert write_question_shards(folder, PLAN) == shards and contents(folder) == first
    shutil.copytree(folder / 'sub', tmp_path / 'copy/sub')
    for job in reversed(shard_jobs(tmp_path / 'copy', PLAN)): write_shard(job)
    assert contents(tmp_path / 'copy') == first
    shutil.copytree(folder / 'sub', tmp_path / 'two/sub')
    write_question_shards(tmp_path / 'two', PLAN, workers=2)
    assert contents(tmp_path / 'two') == first


def test_ray_writes_the_same_bytes(folder, tmp_path):
    pytest.importorskip('ray', reason='the engine ray is an optional extra')
    shutil.copytree(folder / 'sub', tmp_path / 'ray/sub')
    write_question_shards(folder, PLAN)
    assert len(write_question_shards(tmp_path / 'ray', PLAN, workers=2, engine='ray')) == 3
    assert contents(tmp_path / 'ray') == contents(folder)
    with pytest.raises(InputError, match='processes or ray'): write_question_shards(folder, PLAN, engine='abacus')


def test_another_plan_or_other_clips_are_refused(folder):
    write_question_shards(folder, PLAN)
    with pytest.raises(InputError, match='another plan'): write_question_shards(folder, Plan(seed=6))
    shutil.copytree(folder / 'sub/clip_0', folder / 'sub/clip_9')
    with pytest.raises(InputError, match='other clips'): write_question_shards(folder, PLAN)


def test_a_clips_questions_depend_on_seed_and_path_only(folder):
    records = clip_records(folder, 'sub/clip_2', PLAN)
    shutil.rmtree(folder / 'sub/clip_0')
    assert clip_records(folder, 'sub/clip_2', PLAN) == records != clip_records(folder, 'sub/clip_2', Plan(seed=1))
    assert clip_generator(1, 'a').random() != clip_generator(1, 'b').random()
    assert all(record.clip == 'sub/clip_2' and record.meta['seed'] == 5 for record in records)


def test_segments_and_types(folder):
    plan = Plan(segments=3, frames=4, types=('camera_movement', 'visual_tracking'), style=Style(('choice',)))
    records = clip_records(folder, 'sub/clip_1', plan)
    assert {record.type for record in records} <= set(plan.types) and len({record.segment for record in records}) > 1
    assert all(len(record.segment) <= 4 and np.all(np.diff(record.segment) > 0) for record in records)


def test_bad_plans_and_empty_folders(folder, tmp_path):
    for plan, word in ((Plan(types=('smell',)), 'smell'), (Plan(per_type=0), 'per_type'), (Plan(clips_per_shard=-1), 'clips_per_shard')):
        with pytest.raises(InputError, match=word): write_question_shards(folder, plan)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(InputError, match='no clip'): find_clips(tmp_path / 'empty')
