import dataclasses
import json

import av
import numpy as np
import pytest

from track4d_ref.cameras import intrinsics, look_at, pose_from, rotation_about
from track4d_ref.clips import Clip, SceneObject, View, check_clip, clip_fps, load_clip, save_clip, thumbnail_strip
from track4d_ref.storage import InputError, read_arrays, read_json, write_arrays, write_json

T, HEIGHT, WIDTH = 5, 37, 62


def make_clip(views=2, objects=2, frames=True) -> Clip:
    rng = np.random.default_rng(0)
    w2c = lambda v: np.stack([look_at((v + 0.1 * t, -5, 1.5), (0, 0, 1), (0, 0, 1), roll_rad=0.2) for t in range(T)])
    pixels = dict(frames=rng.integers(0, 255, (T, HEIGHT, WIDTH, 3), dtype=np.uint8), depth_m=rng.uniform(1, 9, (T, HEIGHT, WIDTH)).astype(np.float32),
                  instances=rng.integers(0, objects + 1, (T, HEIGHT, WIDTH), dtype=np.int32)) if frames else {}
    make_view = lambda v: View(f'camera {v}', intrinsics(60, 55, 30, 20), w2c(v), HEIGHT, WIDTH, **pixels)
    make_object = lambda i: SceneObject(i, 'car', f'car {i}', np.array([4.0, 2, 1.5]), np.stack([pose_from(rotation_about((0, 0, 1), 0.1 * t), np.array([t, i, 0.7])) for t in range(T)]),
                                        np.arange(T) >= i - 1, agent=True)
    return Clip('made', tuple(map(make_view, range(views))), tuple(make_object(i + 1) for i in range(objects)), np.arange(T) / 10 + 3,
                np.array([0.0, 0, 1]), 'test', 'CC0-1.0', {'note': 'ä'})


@pytest.mark.parametrize('arguments', [dict(), dict(frames=False), dict(views=1, objects=0)])
def test_round_trip(tmp_path, arguments):
    clip = make_clip(**arguments)
    save_clip(clip, tmp_path / 'clip')
    back = load_clip(tmp_path / 'clip')
    assert back.meta == clip.meta and back.times_s.tolist() == clip.times_s.tolist() and len(back.objects) == len(clip.objects)
    for one, other in zip(clip.views, back.views):
        assert (one.w2c == other.w2c).all() and (one.frame_valid == other.frame_valid).all()
        for name in ('frames', 'depth_m', 'instances'):
            assert (getattr(one, name) is None and getattr(other, name) is None) or (getattr(one, name) == getattr(other, name)).all()
    for one, other in zip(clip.objects, back.objects):
        assert (one.world_from_object == other.world_from_object).all() and one.caption == other.caption and one.agent == other.agent


def test_equal_clips_give_equal_bytes(tmp_path):
    for name in 'ab': save_clip(make_clip(), tmp_path / name)
    assert sorted(p.name for p in (tmp_path / 'a').iterdir()) == ['clip.json', 'view0.mp4', 'view0.npz', 'view1.mp4', 'view1.npz', 'world.npz']
    for path in (tmp_path / 'a').iterdir(): assert path.read_bytes() == (tmp_path / 'b' / path.name).read_bytes(), path.name


def test_compact_folder_keeps_numbers_and_a_video(tmp_path):
    clip = make_clip(views=2)
    for name in 'ab': save_clip(clip, tmp_path / name, compact=True)
    assert sorted(p.name for p in (tmp_path / 'a').iterdir()) == ['clip.json', 'view0.mp4', 'view1.mp4', 'world.npz']
    for path in (tmp_path / 'a').iterdir(): assert path.read_bytes() == (tmp_path / 'b' / path.name).read_bytes(), path.name
    back = load_clip(tmp_path / 'a')
    for one, other in zip(clip.views, back.views):
        assert other.depth_m is None and other.instances is None and other.frames.shape == one.frames.shape
        assert np.abs(other.w2c - one.w2c).max() <= 5e-8 and (other.w2c == np.round(other.w2c, 7)).all() and other.frame_valid.all()
    (tmp_path / 'a' / 'view1.mp4').write_bytes((tmp_path / 'a' / 'view1.mp4').read_bytes()[:300])
    with pytest.raises(InputError, match='view1.mp4: not a readable video'): load_clip(tmp_path / 'a')
    save_clip(make_clip(frames=False), tmp_path / 'c', compact=True)
    assert load_clip(tmp_path / 'c').view.frames is None


def test_video_opens_with_every_frame_and_the_right_rate(tmp_path):
    save_clip(make_clip(), tmp_path / 'clip')
    with av.open(str(tmp_path / 'clip' / 'view0.mp4')) as video:
        assert float(video.streams.video[0].average_rate) == pytest.approx(10, rel=0.01)
        shapes = [frame.to_ndarray(format='rgb24').shape for frame in video.decode(video=0)]
    assert shapes == [(38, 62, 3)] * T     # the odd height is padded


def test_segment_keeps_what_is_in_it():
    clip = make_clip()
    cut = clip.segment(0, 1)
    assert [item.id for item in cut.objects] == [1] and cut.view.frames.shape[0] == 1 and cut.times_s.tolist() == [3.0]
    check_clip(dataclasses.replace(clip.segment(1, 4)))
    with pytest.raises(InputError, match='segment'): clip.segment(3, 3)
    with pytest.raises(InputError, match='segment'): clip.segment(0, T + 1)


def test_fps_and_lookup():
    assert clip_fps(make_clip()) == pytest.approx(10) and clip_fps(make_clip().segment(0, 1)) == 1.0
    with pytest.raises(KeyError, match='no object 9'): make_clip().object(9)


def test_html_escapes_and_shows_one_strip_per_view():
    clip = dataclasses.replace(make_clip(), id='<script>')
    assert '<script>' not in clip._repr_html_() and clip._repr_html_().count('<img') == 2
    assert thumbnail_strip(make_clip(frames=False).view).size == 0


def spoil(clip, view=None, item=None, **whole):
    if view: clip = dataclasses.replace(clip, views=(dataclasses.replace(clip.view, **view), *clip.views[1:]))
    if item: clip = dataclasses.replace(clip, objects=(dataclasses.replace(clip.objects[0], **item), *clip.objects[1:]))
    return dataclasses.replace(clip, **whole)


CLIP = make_clip()
POSE = CLIP.objects[0].world_from_object

@pytest.mark.parametrize('clip, words', [
    (spoil(CLIP, views=()), 'no view'),
    (spoil(CLIP, times_s=CLIP.times_s * 0), 'increase'),
    (spoil(CLIP, times_s=CLIP.times_s * np.nan), 'finite'),
    (spoil(CLIP, up=np.zeros(3)), 'unit vector'),
    (spoil(CLIP, views=(CLIP.view, CLIP.view)), 'same name'),
    (spoil(CLIP, objects=CLIP.objects[:1] * 2), 'same id'),
    (spoil(CLIP, view=dict(K=CLIP.view.K * -1)), 'pinhole'),
    (spoil(CLIP, view=dict(w2c=CLIP.view.w2c[:3])), 'w2c must be'),
    (spoil(CLIP, view=dict(w2c=CLIP.view.w2c * 2)), 'rigid'),
    (spoil(CLIP, view=dict(frames=CLIP.view.frames[:, :, :-1])), 'frames is uint8'),
    (spoil(CLIP, view=dict(depth_m=-CLIP.view.depth_m)), 'negatives'),
    (spoil(CLIP, view=dict(instances=CLIP.view.instances + 5)), 'no object'),
    (spoil(CLIP, view=dict(frame_valid=np.ones(2, bool))), 'frame_valid'),
    (spoil(make_clip(frames=False), item=dict(id=0)), 'start at 1'),
    (spoil(CLIP, item=dict(caption=' ')), 'caption'),
    (spoil(CLIP, item=dict(size_m=np.array([1.0, 0, 1]))), 'size_m'),
    (spoil(CLIP, item=dict(present=np.ones(T))), 'present'),
    (spoil(CLIP, item=dict(world_from_object=POSE * np.nan)), 'finite'),
    (spoil(CLIP, item=dict(world_from_object=POSE * np.array([1, 1, -1, 1]))), 'rigid'),
])
def test_each_violation_has_its_sentence(clip, words):
    with pytest.raises(InputError, match=words) as told: check_clip(clip)
    assert 'clip made' in str(told.value) and '\n' not in str(told.value)


def test_two_hundred_damaged_folders_never_load_silently_wrong(tmp_path):
    "Random bytes, cuts and dropped fields: every one is refused with the folder's name, or loads as exactly what was saved."
    save_clip(make_clip(views=1), tmp_path / 'clip')
    originals = {path.name: path.read_bytes() for path in (tmp_path / 'clip').iterdir() if path.suffix != '.mp4'}
    rng, refused = np.random.default_rng(1), 0
    for _ in range(200):
        name = rng.choice(sorted(originals))
        data = bytearray(originals[name])
        if rng.random() < 0.5: data = data[:rng.integers(len(data))]
        else: data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        (tmp_path / 'clip' / name).write_bytes(bytes(data))
        try: check_clip(load_clip(tmp_path / 'clip'))
        except InputError as told: refused += str(tmp_path / 'clip') in str(told)
        (tmp_path / 'clip' / name).write_bytes(originals[name])
    assert refused >= 150
    assert load_clip(tmp_path / 'clip').id == 'made'


def test_old_format_and_missing_folder(tmp_path):
    save_clip(make_clip(), tmp_path / 'clip')
    write_json(tmp_path / 'clip' / 'clip.json', {**read_json(tmp_path / 'clip' / 'clip.json'), 'format': 'track4d-clip/0'})
    with pytest.raises(InputError, match='convert the clip'): load_clip(tmp_path / 'clip')
    with pytest.raises(InputError, match='no such clip folder'): load_clip(tmp_path / 'nowhere')


def test_arrays_of_other_shapes_are_refused(tmp_path):
    save_clip(make_clip(), tmp_path / 'clip')
    numbers = read_arrays(tmp_path / 'clip' / 'world.npz')
    write_arrays(tmp_path / 'clip' / 'world.npz', **{**numbers, 'times_s': numbers['times_s'][:-1]})
    with pytest.raises(InputError, match=str(tmp_path / 'clip')): load_clip(tmp_path / 'clip')
