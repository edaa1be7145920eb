"ADT and HOT3D: clocks, quaternion orders, half pixels, lenses, meshes and a stranger's calibration."
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from track4d_ref.aria import common_clock, poses_at, read_adt_pinhole, spoken_name
from track4d_ref.cameras import invert_pose, pixel_centers, transform, unproject
from track4d_ref.clips import check_clip
from track4d_ref.headsets import (fisheye_project, quest_cameras, read_adt, read_aria_trajectory, read_hot3d, read_mesh_points,
                                  read_object_poses)
from track4d_ref.storage import InputError

DATA = Path(os.environ.get('TRACK4D_DATA', 'absent'))
pinhole = pytest.mark.skipif(not (DATA / 'adt_pinhole').is_dir(), reason='TRACK4D_DATA has no adt_pinhole')
original = pytest.mark.skipif(not (DATA / 'adt_sample').is_dir(), reason='TRACK4D_DATA has no adt_sample')
hot3d = pytest.mark.skipif(not (DATA / 'hot3d_sample').is_dir(), reason='TRACK4D_DATA has no hot3d_sample')
QUEST, ARIA = DATA / 'hot3d_sample/Quest3/P0002_273c2819', DATA / 'hot3d_sample/Aria/P0003_c701bd11'


def write_adt(folder, records=None, **changes):
    "Two frames of 8 × 6 pixels, a box in front of the camera."
    arrays = {'K': np.array([[9.0, 0, 3.5], [0, 8, 2.5], [0, 0, 1]]), 'rgb': np.zeros((2, 6, 8, 3), np.uint8),
              'depth_mm': np.full((2, 6, 8), 2000, np.uint16), 'seg': np.full((2, 6, 8), 2 ** 53 + 1, np.uint64),
              'T_world_cam': np.stack([np.eye(4)] * 2), 'ts': np.array([10 ** 9, 10 ** 9 + 33 * 10 ** 6]), **changes}
    np.savez(folder / 'frames.npz', **{name: value for name, value in arrays.items() if value is not None})
    record = {'name': 'WoodenBox_2', 'category': 'box', 'motion': 'dynamic', 'box_xminmax_yminmax_zminmax': [-.2, .2, 0, .6, -.4, .4],
              'poses_ts_txyz_qwxyz': [[-1, 0, 0, 2, 1, 0, 0, 0]]}
    (folder / 'objects.json').write_text(json.dumps({str(2 ** 53 + 1): record} if records is None else records))
    return folder


def inside_own_box(clip, frame, tolerance_m=0.02, at_least=60):
    view = clip.view
    uv_px, shares = pixel_centers(view.height, view.width).reshape(-1, 2), []
    world_m = unproject(view.K, view.w2c[frame], uv_px, view.depth_m[frame].reshape(-1).astype(float))
    for thing in clip.objects:
        mine = world_m[view.instances[frame].reshape(-1) == thing.id]
        if len(mine) < at_least: continue
        local_m = transform(invert_pose(thing.world_from_object[frame]), mine)
        shares.append((np.abs(local_m) <= thing.size_m / 2 + tolerance_m).all(-1).mean())
    return shares


def test_small_adt_clip(tmp_path):
    clip = read_adt_pinhole(write_adt(tmp_path))
    check_clip(clip)
    box = clip.objects[0]
    assert clip.view.K[:2, 2].tolist() == [4.0, 3.0]                       # integer centres moved by half a pixel
    assert np.allclose(box.size_m, (0.8, 0.4, 0.6)) and np.allclose(box.centers_m[0], (0, 0.3, 2))
    assert np.allclose(box.world_from_object[0, :3, 0], (0, 0, 1)) and np.allclose(box.world_from_object[0, :3, 2], (0, 1, 0))
    assert (clip.view.instances == 1).all() and clip.meta['uids'] == [str(2 ** 53 + 1)]      # 64-bit ids survive
    assert clip.view.depth_m[0, 0, 0] == 2.0 and clip.times_s.tolist() == [0, 0.033]


def test_clock_keeps_frames_and_lonely_poses_and_unknown_is_absent():
    clock = common_clock(np.array([100, 200]) * 10 ** 6, np.array([101, 300]) * 10 ** 6)
    assert (clock // 10 ** 6).tolist() == [100, 200, 300]
    _, known = poses_at(np.array([100 * 10 ** 6]), np.eye(4)[None], clock)
    assert known.tolist() == [True, False, False]
    assert poses_at(np.array([-1]), np.eye(4)[None], clock)[1].all()


def test_names():
    assert [spoken_name(name) for name in ('WoodenFork', 'Apartment_BedroomDoor', '12', 'DinoToy_3')] == [
        'wooden fork', 'bedroom door', 'object', 'dino toy']


@pytest.mark.parametrize('changes', [
    {'K': None}, {'K': np.eye(4)}, {'K': np.full((3, 3), np.nan)}, {'rgb': np.zeros((2, 6, 8))}, {'rgb': np.zeros((2, 5, 8, 3), np.uint8)},
    {'seg': np.zeros((1, 6, 8), np.uint64)}, {'depth_mm': np.zeros((2, 6, 8), np.float32)}, {'ts': np.array([5, 5])},
    {'ts': np.array(['a', 'b'])}, {'ts': np.array([1e30, 2e30])}, {'T_world_cam': np.stack([np.eye(4)] * 3)}, {'T_world_cam': np.stack([np.diag([1.0, 1, -1, 1])] * 2)},
    {'T_world_cam': np.full((2, 4, 4), np.inf)}, {'rgb': np.zeros((0, 6, 8, 3), np.uint8)}])
def test_broken_frames_are_one_sentence(tmp_path, changes):
    with pytest.raises(InputError, match='frames.npz'): read_adt_pinhole(write_adt(tmp_path, **changes))


@pytest.mark.parametrize('record', [
    {}, [], {'x': {}}, {'5': []}, {'5': {'name': 'a', 'category': 'b', 'box_xminmax_yminmax_zminmax': [0] * 6, 'poses_ts_txyz_qwxyz': []}},
    {'5': {'name': 'a', 'category': 'b', 'box_xminmax_yminmax_zminmax': [0, 1] * 3, 'poses_ts_txyz_qwxyz': [[-1, 0, 0, 0, 0, 0, 0, 0]]}},
    {'5': {'name': 'a', 'category': 'b', 'box_xminmax_yminmax_zminmax': [1, 0] * 3, 'poses_ts_txyz_qwxyz': [[-1, 0, 0, 0, 1, 0, 0, 0]]}},
    {'5': {'name': 3, 'category': 'b', 'box_xminmax_yminmax_zminmax': [0, 1] * 3, 'poses_ts_txyz_qwxyz': [[-1, 0, 0, 0, 1, 0, 0, 0]]}},
    {'5': {'name': 'a', 'category': 'b', 'box_xminmax_yminmax_zminmax': [0, 1] * 3, 'poses_ts_txyz_qwxyz': [[-1, 0, 0, None, 1, 0, 0, 0]]}},
    {str(10 ** 30): {}}])
def test_broken_objects_are_one_sentence(tmp_path, record):
    with pytest.raises(InputError, match='objects.json'): read_adt_pinhole(write_adt(tmp_path, records=record))


def test_trajectory_is_microseconds_and_scalar_last(tmp_path):
    names = ['tracking_timestamp_us', *(f't{a}_world_device' for a in 'xyz'), *(f'q{a}_world_device' for a in 'xyzw')]
    (tmp_path / 'a.csv').write_text(','.join(names[::-1]) + '\n' + ','.join(['0.6', '0', '0', '0.8', '3', '2', '1', '7']))
    stamps, poses = read_aria_trajectory(tmp_path / 'a.csv')               # columns in any order
    assert stamps.tolist() == [7000] and poses[0, :3, 3].tolist() == [1, 2, 3]
    assert np.allclose(poses[0, :3, 0], (1, 0, 0)) and poses[0, 2, 1] == pytest.approx(0.96)      # 106° about x
    with pytest.raises(InputError, match='length 1'):
        (tmp_path / 'b.csv').write_text((tmp_path / 'a.csv').read_text().replace('0.6', '0.9'))
        read_aria_trajectory(tmp_path / 'b.csv')


def test_fisheye_matches_its_formula_term_by_term():
    k, p, s = (0.1, -0.02, 0.01, 0, 0, 0.001), (0.003, -0.002), (0.001, 0.0002, -0.001, 0.0003)
    x, y, z = 0.7, -0.4, 1.3
    a, b = x / z, y / z
    r = np.hypot(a, b); theta = np.arctan(r)
    bent = theta * (1 + sum(c * theta ** (2 * i + 2) for i, c in enumerate(k)))
    xr, yr = bent * a / r, bent * b / r
    rho2 = xr ** 2 + yr ** 2
    u = xr + (2 * xr ** 2 + rho2) * p[0] + 2 * xr * yr * p[1] + s[0] * rho2 + s[1] * rho2 ** 2
    v = yr + (2 * yr ** 2 + rho2) * p[1] + 2 * xr * yr * p[0] + s[2] * rho2 + s[3] * rho2 ** 2
    for lens, expected in (([600, 320, 240, *k, *p, *s], (600 * u + 320, 600 * v + 240)),
                           ([600, 500, 320, 240, *k, *p, *s], (600 * u + 320, 500 * v + 240))):
        assert np.allclose(fisheye_project(np.array(lens), np.array([x, y, z])), expected)


@pinhole
def test_adt_pixels_lie_in_their_own_boxes():
    clip = read_adt_pinhole(DATA / 'adt_pinhole')
    check_clip(clip)
    for frame in (0, 1):
        shares = inside_own_box(clip, frame)
        print(f'frame {frame}: {len(shares)} objects, mean share {np.mean(shares):.4f}, median {np.median(shares):.4f}')
        assert len(shares) >= 60 and np.mean(shares) >= 0.98 and np.median(shares) >= 0.99
    assert clip.view.frame_valid.tolist() == [True, True, False, False, False, False]
    valid = clip.view.depth_m[:2]
    assert valid.min() == pytest.approx(0.311) and valid.max() == pytest.approx(3.331)


@pinhole
def test_only_fork_and_spoon_move():
    clip = read_adt_pinhole(DATA / 'adt_pinhole')
    moved_m = {thing.caption: np.linalg.norm(thing.centers_m - thing.centers_m[0], axis=-1).max() for thing in clip.objects}
    movers = {name: round(float(value), 4) for name, value in moved_m.items() if value > 0.05}
    print(f'{len(clip.objects)} objects, movers {movers} m, next {sorted(moved_m.values())[-3] * 1000:.2f} mm')
    assert set(movers) == {'wooden fork', 'wooden spoon'} and sorted(moved_m.values())[-3] < 1e-3
    w2c = clip.view.w2c
    assert np.linalg.norm(invert_pose(w2c)[1, :3, 3] - invert_pose(w2c)[0, :3, 3]) == pytest.approx(0.0021, abs=2e-4)


@original
@pinhole
def test_original_and_pinhole_forms_agree():
    "One device→camera transform explains both frames: µs stamps, xyzw order and the turned image are right."
    rectified, mounts = read_adt_pinhole(DATA / 'adt_pinhole'), []
    bare = read_adt(DATA / 'adt_sample')
    for t in (0, 1): mounts.append(bare.view.w2c[t] @ invert_pose(rectified.view.w2c[t]))
    clip = read_adt(DATA / 'adt_sample', device_from_camera=mounts[0])
    difference = np.abs(clip.view.w2c[:2] - rectified.view.w2c[:2]).max()
    print(f'device→camera differs between the frames by {np.abs(mounts[0] - mounts[1]).max():.1e}')
    assert difference < 1e-9 and not bare.meta['camera_poses_known'] and len(clip.objects) == 349
    centres = {thing.caption: thing.centers_m for thing in rectified.objects if thing.caption.startswith('wooden')}
    for thing in clip.objects:
        if thing.caption in ('wooden fork', 'wooden spoon'): assert np.allclose(thing.centers_m, centres[thing.caption], atol=1e-9)


@hot3d
def test_quest3_meshes_meet_their_2d_boxes():
    clip = read_hot3d(QUEST)
    check_clip(clip)
    lenses = {stream: (lens, mount) for stream, lens, mount in quest_cameras(QUEST)}
    device_ns, device = next(iter(read_object_poses(QUEST / 'headset_trajectory.csv').values()))
    objects, values = read_object_poses(QUEST / 'dynamic_objects.csv'), {}
    for line in (QUEST / 'box2d_objects.csv').read_text().splitlines()[1:]:
        stream, uid, stamp, *box = line.split(',')
        mesh = DATA / f'hot3d_sample/object_library/{uid}.glb'
        if not mesh.is_file() or float(box[4] or 0) < 0.95: continue
        stamps, poses = objects[uid]
        world_m = transform(poses[np.abs(stamps - int(stamp)).argmin()], read_mesh_points(mesh))
        lens, mount = lenses[stream]
        world_from_camera = device[np.abs(device_ns - int(stamp)).argmin()] @ mount
        uv_px = fisheye_project(lens, transform(invert_pose(world_from_camera), world_m))
        (left, top), (right, bottom) = uv_px.min(0), uv_px.max(0)
        x0, x1, y0, y1 = map(float, box[:4])
        both = max(0, min(right, x1) - max(left, x0)) * max(0, min(bottom, y1) - max(top, y0))
        values.setdefault(stream, []).append(both / ((right - left) * (bottom - top) + (x1 - x0) * (y1 - y0) - both))
    for stream, ious in values.items(): print(f'Quest3 {stream}: {len(ious)} boxes, median IoU {np.median(ious):.4f}, least {min(ious):.3f}')
    assert len(values) == 2 and all(len(ious) >= 20 and np.median(ious) >= 0.95 for ious in values.values())


@hot3d
def test_hot3d_motion_up_and_the_strangers_calibration():
    for folder, mover in ((QUEST, 'mouse'), (ARIA, 'coffee pot')):
        clip = read_hot3d(folder)
        moved_m = {thing.caption: np.linalg.norm(thing.centers_m[-1] - thing.centers_m[0]) for thing in clip.objects}
        print(folder.parent.name, {name: f'{value * 1000:.1f} mm' for name, value in moved_m.items()})
        assert max(moved_m, key=moved_m.get) == mover and sorted(moved_m.values())[-2] < 1e-3
        upright = [thing for thing in clip.objects if thing.caption in ('keyboard', 'cellphone', 'mug white')]
        assert all(abs(clip.up @ thing.world_from_object[0, :3, 2]) > 0.98 for thing in upright)
    assert 'another recording' in ' '.join(clip.meta['skipped']) and not clip.meta['camera_poses_known']
    assert clip.frames_count == 34                                          # 68 stamps in pairs


@hot3d
def test_broken_meshes_and_tables(tmp_path):
    mesh = next((DATA / 'hot3d_sample/object_library').glob('54*.glb'))
    content = mesh.read_bytes()
    for name, broken in {'cut': content[:9000], 'text': b'hello', 'empty': b'', 'header': content[:16] + b'\xff' * 4 + content[20:]}.items():
        (tmp_path / 'a.glb').write_bytes(broken)
        with pytest.raises(InputError, match='a.glb'): read_mesh_points(tmp_path / 'a.glb')
    shutil.copytree(QUEST, tmp_path / 'q')
    table = tmp_path / 'q/dynamic_objects.csv'
    text = table.read_text()
    for old, new in (('0.8021131110324647', 'nan'), ('q_wo_w', 'w'), ('0.8021131110324647', '2'), ('37787722328019', '../../x')):
        table.write_text(text.replace(old, new))
        with pytest.raises(InputError, match='dynamic_objects.csv'): read_hot3d(tmp_path / 'q', DATA / 'hot3d_sample/object_library')
