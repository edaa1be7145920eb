"RGB-D, Kubric, point tracks and stereo pairs: pose directions, depth meanings, quaternion orders; resampling and lifting."
import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from small_sources import ORBIT, write_kubric, write_own, write_sevenscenes, write_stereo4d, write_tum
from track4d_ref.cameras import invert_pose, pixel_centers, project, transform, unproject
from track4d_ref.clips import check_clip, load_clip
from track4d_ref.kubric import poses_from_corners, read_kubric
from track4d_ref.point_tracks import point_objects, read_stereo4d
from track4d_ref.raw import metric_depth, planar_from_ray, read_picture, rotation_from_quaternion
from track4d_ref.questions import ask_all
from track4d_ref.readers import SOURCES, convert_source, source_clips
from track4d_ref.rgbd import read_own, read_sevenscenes, read_tum, read_tum_trajectory
from track4d_ref.standard import box_surface_points, lifted_points, resample_time, resize_clip
from track4d_ref.stereo import vertical_offsets_px
from track4d_ref.storage import InputError
from track4d_ref.tracks import object_points

DATA = Path(os.environ.get('TRACK4D_DATA', 'absent'))
need = lambda name: pytest.mark.skipif(not (DATA / name).is_dir(), reason=f'TRACK4D_DATA has no {name}')
SCENES = ('scene_a', 'scene_d')


# --- conventions ------------------------------------------------------------------------------------------------------

def test_quaternion_orders_differ_and_match_a_known_turn():
    half = np.array([0.0, 0, np.sin(0.35), np.cos(0.35)])
    turn = np.array([[np.cos(0.7), -np.sin(0.7), 0], [np.sin(0.7), np.cos(0.7), 0], [0, 0, 1]])
    assert np.allclose(rotation_from_quaternion(half, 'xyzw'), turn) and np.allclose(rotation_from_quaternion(half[[3, 0, 1, 2]], 'wxyz'), turn)
    with pytest.raises(InputError, match='length 1'): rotation_from_quaternion([1, 1, 0, 0], 'wxyz')


def test_depth_units_and_meanings():
    stored = np.array([[0, 1000, 65535]], np.uint16)
    assert metric_depth(stored, 1e-3, invalid=65535).tolist() == [[0, 1, 0]]                       # 7-Scenes: millimetres
    assert metric_depth(stored, 0.01, far=65535).tolist() == [[0, 10, np.inf]]                     # Virtual KITTI 2: centimetres, sky
    assert metric_depth(stored, 1 / 5000)[0, 1] == pytest.approx(0.2)                               # TUM
    K = np.array([[50.0, 0, 30], [0, 40, 22], [0, 0, 1]])
    points = unproject(K, np.eye(4), pixel_centers(44, 60).reshape(-1, 2), np.full(44 * 60, 3.0))
    assert np.allclose(planar_from_ray(np.linalg.norm(points, axis=1).reshape(44, 60), K), 3)


def test_sevenscenes_and_tum_poses_are_camera_to_world(tmp_path):
    clip = read_sevenscenes(write_sevenscenes(tmp_path / 's'))
    assert np.allclose(clip.view.w2c, ORBIT, atol=1e-7) and clip.view.depth_m[0, 0, 0] == 1.5 and np.allclose(clip.times_s, np.arange(4) / 30)
    clip = read_tum(write_tum(tmp_path / 't'))
    assert np.allclose(invert_pose(clip.view.w2c)[2, :3, 3], (2, 0, 1)) and clip.view.depth_m[0, 0, 0] == pytest.approx(1.8)
    assert np.allclose(invert_pose(clip.view.w2c)[0, :3, 0], (0.28, 0.96, 0))                        # scalar last: 73.7° about z
    assert np.allclose(clip.view.K[:2, 2], (320, 240)) and clip.view.frame_valid.all()
    (tmp_path / 't/rgb/2.png').unlink()
    assert read_tum(tmp_path / 't').view.frame_valid.tolist() == [True, True, False, True]


def test_kubric_camera_looks_backwards_and_depth_is_a_ray(tmp_path):
    clip = read_kubric(write_kubric(tmp_path))
    check_clip(clip)
    assert np.allclose(invert_pose(clip.view.w2c)[0, :3, 2], (0, 0, -1))                              # unturned: looks down
    assert clip.view.K[0, 0] == pytest.approx(17.5) and clip.objects[0].caption == 'red cube'
    corner_ray = np.sqrt(1 + (7.5 / 17.5) ** 2 + (5.5 / 17.5) ** 2)
    assert clip.view.depth_m[0, 0, 0] == pytest.approx(5 / corner_ray, rel=1e-5)
    with pytest.raises(InputError, match='right-handed'): poses_from_corners(np.zeros((1, 8, 3)) + np.eye(8, 3)[None], 'x')


def test_mirrored_kubric_corners_are_refused(tmp_path):
    path = write_kubric(tmp_path) / 'metadata.json'
    scene = json.loads(path.read_text())
    corners = np.array(scene['instances'][0]['bboxes_3d'])
    scene['instances'][0]['bboxes_3d'] = corners[:, [1, 0, 3, 2, 5, 4, 7, 6]].tolist()
    path.write_text(json.dumps(scene))
    with pytest.raises(InputError, match='instance 0'): read_kubric(tmp_path)


def test_stereo4d_gaps_are_absence_and_times_microseconds(tmp_path):
    clip = read_stereo4d(write_stereo4d(tmp_path) / 'walk.npz')
    check_clip(clip)
    assert clip.objects[1].present.tolist() == [True, True, False, True] and np.allclose(clip.objects[1].centers_m[3], (18, 19, 20))
    assert clip.times_s[1] == pytest.approx(0.033333) and np.allclose(clip.view.w2c, ORBIT)
    assert len(point_objects(np.zeros((3, 1000, 3)))) == 64


def test_own_npz_accepts_both_pose_directions(tmp_path):
    path = write_own(tmp_path) / 'video.npz'
    arrays = dict(np.load(path))
    first = read_own(path)
    np.savez(path, **{**{k: v for k, v in arrays.items() if k != 'w2c'}, 'c2w': invert_pose(arrays['w2c'])})
    assert np.allclose(read_own(path).view.w2c, first.view.w2c)
    for name, value in (('fps', -1.0), ('fps', 'x'), ('frames', np.zeros((4, 5))), ('depth_m', np.full((4, 24, 32), np.nan, np.float32)),
                        ('up', np.zeros(3)), ('K', np.zeros((3, 3))), ('instances', np.full((4, 24, 32), 9)), ('w2c', np.zeros((4, 4, 4)))):
        np.savez(path, **{**arrays, name: value})
        with pytest.raises(InputError, match='video.npz'): read_own(path)


# --- resampling and lifting -------------------------------------------------------------------------------------------

def test_resizing_keeps_points_on_their_pixels(tmp_path):
    clip = read_own(write_own(tmp_path) / 'video.npz')
    point = np.array([[0.1, -0.2, 0.5]])
    before, _ = project(clip.view.K, clip.view.w2c[1], point)
    for height, width in ((24, 32), (12, 16), (10, 32), (48, 20), (7, 9)):
        small = resize_clip(clip, height, width)
        check_clip(small)
        after, _ = project(small.view.K, small.view.w2c[1], point)
        scale = max(height / 24, width / 32)
        assert np.allclose(after - (width / 2, height / 2), (before - (16, 12)) * scale, atol=1.2 * scale)
        assert small.view.frames.shape == (4, height, width, 3) and small.view.depth_m.dtype == np.float32
    for size in ((0, 5), (5, -1), (10 ** 6, 5)):
        with pytest.raises(InputError): resize_clip(clip, *size)


def test_resampling_keeps_true_moments(tmp_path):
    clip = read_own(write_own(tmp_path) / 'video.npz')                            # 10 frames per second
    half = resample_time(clip, 5)
    assert half.times_s.tolist() == [0, 0.2] and np.allclose(half.view.w2c, clip.view.w2c[::2])
    assert resample_time(clip, 1e5).frames_count == 4 and resample_time(clip, 0.1).frames_count == 1
    for rate in (0, -3, float('nan'), float('inf')):
        with pytest.raises(InputError): resample_time(clip, rate)


def test_box_points_lie_on_the_faces_evenly():
    size_m = np.array([4.0, 1.8, 1.5])
    points = box_surface_points(size_m, 20_000, np.random.default_rng(0))
    on_face = np.isclose(np.abs(points), size_m / 2)
    assert (np.abs(points) <= size_m / 2 + 1e-12).all() and (on_face.sum(1) == 1).all()
    shares, areas = on_face.mean(0), np.array([1.8 * 1.5, 4 * 1.5, 4 * 1.8])
    assert np.allclose(shares, areas / areas.sum(), atol=0.015)


# --- the real samples -------------------------------------------------------------------------------------------------

@need('sevenscenes_rgbd')
def test_sevenscenes_warp():
    clip = read_sevenscenes(DATA / 'sevenscenes_rgbd')
    check_clip(clip)
    view, centres = clip.view, pixel_centers(480, 640)[::2, ::2].reshape(-1, 2)
    start_m = view.depth_m[0][::2, ::2].reshape(-1).astype(float)
    path_m = np.linalg.norm(np.diff(invert_pose(view.w2c)[:, :3, 3], axis=0), axis=1).sum()
    gaps_m = {}
    for name, w2c in (('c2w', view.w2c), ('w2c', invert_pose(view.w2c))):
        for frame in (1, 5, 10, 20):
            uv_px, expected_m = project(view.K, w2c[frame], unproject(view.K, w2c[0], centres[start_m > 0], start_m[start_m > 0]))
            seen = (expected_m > 0) & (uv_px >= 0).all(-1) & (uv_px < (640, 480)).all(-1)
            found_m = view.depth_m[frame][uv_px[seen, 1].astype(int), uv_px[seen, 0].astype(int)]
            gaps_m[name, 5 * frame] = np.median(np.abs(found_m - expected_m[seen])[found_m > 0])
    print(f'path {path_m:.3f} m, valid depth {np.mean(view.depth_m[0] > 0):.3f}; warp', {f'{k} {n}': f'{v * 1000:.0f} mm' for (k, n), v in gaps_m.items()})
    assert clip.frames_count == 60 and path_m == pytest.approx(1.958, abs=2e-3) and np.mean(view.depth_m[0] > 0) == pytest.approx(0.892, abs=1e-3)
    assert all(gaps_m['c2w', n] <= 0.02 for n in (5, 25, 50, 100)) and gaps_m['w2c', 50] > 0.2
    share = share_of_normals(view, clip.up)
    print(f'{share:.3f} of the surface of frame 0 lies level with the stated gravity (0.03 by chance)')
    assert share > 0.15


def share_of_normals(view, direction, step=6):
    "How much of frame 0's surface has a normal within 14 degrees of a direction."
    depth_m = view.depth_m[0].astype(float)
    world_m = unproject(view.K, view.w2c[0], pixel_centers(*depth_m.shape).reshape(-1, 2), depth_m.reshape(-1)).reshape(*depth_m.shape, 3)
    across, down = world_m[:-step, step:] - world_m[:-step, :-step], world_m[step:, :-step] - world_m[:-step, :-step]
    known = (depth_m[:-step, :-step] > 0) & (np.linalg.norm(across, axis=-1) < 0.08) & (np.linalg.norm(down, axis=-1) < 0.08)
    normals = np.cross(across, down)[known]
    return (np.abs(normals @ direction) > 0.97 * np.linalg.norm(normals, axis=1)).mean()


@need('trajectories')
def test_tum_trajectory():
    stamps, poses = read_tum_trajectory(DATA / 'trajectories/freiburg1_xyz-groundtruth.txt')
    path_m = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1).sum()
    print(f'{len(stamps)} poses over {stamps[-1] - stamps[0]:.2f} s, path {path_m:.2f} m')
    assert len(stamps) == 3000 and stamps[-1] - stamps[0] == pytest.approx(30.09, abs=0.01) and path_m == pytest.approx(9.16, abs=0.01)


def read_png16(path):
    "A 16-bit RGB PNG (H, W, 3); Pillow would reduce it to 8 bits."
    content, place, header, packed = path.read_bytes(), 8, None, b''
    while place < len(content):
        size, kind = struct.unpack('>I4s', content[place:place + 8])
        if kind == b'IHDR': header = struct.unpack('>IIBBBBB', content[place + 8:place + 8 + size])
        if kind == b'IDAT': packed += content[place + 8:place + 8 + size]
        place += 12 + size
    width, height, depth, color, *_ = header
    assert (depth, color) == (16, 2)
    rows = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, 1 + 6 * width)
    picture, above = np.zeros((height, 6 * width), np.uint8), np.zeros(6 * width, np.int64)
    for index, row in enumerate(rows):
        line = row[1:].astype(np.int64)
        if row[0] == 2: line = (line + above) % 256
        elif row[0] == 1: line = line.reshape(-1, 6).cumsum(0).reshape(-1) % 256
        elif row[0] > 2: line = unfilter(row[0], line, above)
        picture[index], above = line, line
    return picture.reshape(height, width, 3, 2).astype(np.uint16) @ np.array([256, 1], np.uint16)


def unfilter(kind, line, above):
    done = [0] * 6
    corner = [0] * 6 + above.tolist()
    for i, value in enumerate(line.tolist()):
        left, up, diagonal = done[i], int(above[i]), corner[i]
        if kind == 3: guess = (left + up) // 2
        else: guess = min((left, up, diagonal), key=lambda one: abs(left + up - diagonal - one))
        done.append((value + guess) % 256)
    return np.array(done[6:])


@need('kubric_scenes')
@pytest.mark.parametrize('name', SCENES)
def test_kubric_pixels_lie_in_their_boxes(name):
    clip, inside, planar_instead = read_kubric(DATA / 'kubric_scenes' / name), [], []
    check_clip(clip)
    view = clip.view
    slope = (pixel_centers(view.height, view.width) - view.K[:2, 2]) / view.K[[0, 1], [0, 1]]
    for frame in range(0, clip.frames_count, 5):
        for stretch, found in ((1, inside), (np.sqrt(1 + (slope ** 2).sum(-1)), planar_instead)):
            depth_m = np.nan_to_num(view.depth_m[frame] * stretch, posinf=1e6).reshape(-1).astype(float)
            world_m = unproject(view.K, view.w2c[frame], pixel_centers(view.height, view.width).reshape(-1, 2), depth_m)
            for item in clip.objects:
                mine = world_m[view.instances[frame].reshape(-1) == item.id]
                local_m = transform(invert_pose(item.world_from_object[frame]), mine)
                found.append((np.abs(local_m) <= item.size_m / 2 + 0.02).all(-1))
    shares = [np.concatenate(found).mean() for found in (inside, planar_instead)]
    print(f'{name}: {shares[0]:.4f} of {sum(map(len, inside))} object pixels in their own box, {shares[1]:.4f} if the depth is taken as planar')
    assert shares[0] >= 0.98 and shares[1] < shares[0] - 0.02


@need('kubric_scenes')
@pytest.mark.parametrize('name', SCENES)
def test_kubric_flow_agrees_with_projected_motion(name):
    folder = DATA / 'kubric_scenes' / name
    clip, ranges = read_kubric(folder), json.loads((folder / 'data_ranges.json').read_text())['forward_flow']
    view, gaps_px, swapped_px = clip.view, [], []
    centres = pixel_centers(view.height, view.width)
    for frame in (0, 7, 15):
        flow = read_png16(folder / f'forward_flow_{frame:05d}.png') / 65535 * (ranges['max'] - ranges['min']) + ranges['min']
        for item in clip.objects:
            mine = view.instances[frame] == item.id
            if not mine.any(): continue
            world_m = unproject(view.K, view.w2c[frame], centres[mine], view.depth_m[frame][mine].astype(float))
            later_m = transform(item.world_from_object[frame + 1], transform(invert_pose(item.world_from_object[frame]), world_m))
            moved_px = project(view.K, view.w2c[frame + 1], later_m)[0] - centres[mine]
            gaps_px.append(np.linalg.norm(moved_px - flow[mine][:, [1, 0]], axis=1))                  # stored as Δrow, Δcolumn
            swapped_px.append(np.linalg.norm(moved_px - flow[mine][:, :2], axis=1))
    gaps_px, swapped_px = np.concatenate(gaps_px), np.concatenate(swapped_px)
    print(f'{name}: flow and projected motion differ by {np.median(gaps_px):.4f} px (median), {np.percentile(gaps_px, 99):.4f} px (99 %); '
          f'channels swapped {np.median(swapped_px):.2f} px')
    assert np.percentile(gaps_px, 99) < 0.05 and np.median(swapped_px) > 1


@need('stereo_bidavideo')
def test_stereo_pairs_are_rectified():
    offsets = []
    for index in (0, 4, 9):
        left, right = (read_picture(DATA / f'stereo_bidavideo/{side}/{side}{index:06d}.jpg')[::2, ::2] for side in ('left', 'right'))
        offsets.append(2 * np.median(vertical_offsets_px(left, right, 64)))
    print('vertical disparity, median px per pair:', np.round(offsets, 2).tolist())
    assert np.abs(offsets).max() < 1


@need('kitti_tracking')
def test_lifting_from_boxes_on_a_labels_only_sequence():
    clip = SOURCES['kitti'].read(DATA / 'kitti_tracking/training', '0003', 0, 20)
    assert clip.view.frames is None and clip.objects
    ids, xyz_world = lifted_points(clip, np.random.default_rng(1), per_object=5)
    assert xyz_world.shape == (20, len(ids), 3) and len(ids) == 5 * sum(item.present[0] for item in clip.objects)
    for item in clip.objects:
        mine = xyz_world[:, ids == item.id]
        if mine.shape[1]: assert (np.isfinite(mine).all((1, 2)) == item.present).all()


@need('adt_pinhole')
def test_lifting_from_depth():
    clip = SOURCES['adt'].read(DATA / 'adt_pinhole')
    ids, xyz_world = lifted_points(clip, np.random.default_rng(1), per_object=4)
    fork = next(item for item in clip.objects if item.caption == 'wooden fork')
    moved_m = np.linalg.norm(xyz_world[-1] - xyz_world[0], axis=-1)
    print(f'{len(ids)} lifted points; those on the fork moved {moved_m[ids == fork.id].min() * 100:.1f} cm and more')
    assert (moved_m[ids == fork.id] > 0.05).all() and np.median(moved_m) < 1e-4
    assert np.isfinite(object_points(clip, fork.id, np.zeros((1, 3)))).all()


SAMPLES = {'kitti': 'kitti_tracking', 'shift': 'shift_sample', 'adt': 'adt_pinhole', 'hot3d': 'hot3d_sample', 'kubric': 'kubric_scenes',
           'wildtrack': 'wildtrack', '7scenes': 'sevenscenes_rgbd'}


@pytest.mark.parametrize('source', SAMPLES)
def test_every_sample_becomes_clips(source):
    if not (DATA / SAMPLES[source]).is_dir(): pytest.skip(f'TRACK4D_DATA has no {SAMPLES[source]}')
    name, read = next(source_clips(source, DATA / SAMPLES[source], 8))
    clip = read()
    check_clip(clip)
    print(name, clip)
    assert clip.licence and clip.source == {'7scenes': '7scenes'}.get(source, source)


def test_the_recipe_for_a_phone_video_ends_in_questions_that_name_the_object_once(tmp_path):
    "Frames, poses, depth and one box as a reconstruction gives them, through conversion to questions."
    t, frames = np.arange(12), np.zeros((12, 48, 64, 3), np.uint8)
    c2w, box = np.tile(np.eye(4), (12, 1, 1)), np.tile(np.eye(4), (1, 12, 1, 1))
    c2w[:, 0, 3] = 0.06 * t
    box[0, :, :3, :3] = [[0, -1, 0], [0, 0, -1], [1, 0, 0]]                      # z up is against the camera's y
    box[0, :, :3, 3] = np.stack([-0.6 + 0.1 * t, np.full(12, 0.2), np.full(12, 2.5)], -1)
    np.savez(tmp_path / 'kitchen.npz', frames=frames, K=[[60.0, 0, 31], [0, 61, 25], [0, 0, 1]], c2w=c2w, fps=10.0, up=[0, -1.0, 0],
             depth_m=np.full((12, 48, 64), 4, np.float32), object_ids=[1], object_labels=['box'], object_captions=['the red box'],
             object_sizes_m=[[0.4, 0.4, 0.3]], world_from_object=box)
    report = convert_source('own', tmp_path / 'kitchen.npz', tmp_path / 'clips', fps=5, size=(36, 48))
    assert report['written'] == ['own_kitchen'] and not report['skipped']
    clip = load_clip(tmp_path / 'clips' / 'own_kitchen')
    assert clip.frames_count == 6 and (clip.view.height, clip.view.width) == (36, 48) and clip.objects[0].caption == 'red box'
    questions = ask_all(clip, np.random.default_rng(0), per_type=4)
    said = ' '.join(question.text for question in questions)
    assert 'the red box' in said and 'the the' not in said
    truths = {question.type: question.targets for question in questions}
    print({kind: sum(question.type == kind for question in questions) for kind in truths})
    assert truths['camera_movement']['shift_m'] == pytest.approx([0.6, 0, 0], abs=1e-3)
    assert np.argmax(np.abs(truths['object_direction']['shift'])) == 0 and truths['object_direction']['shift'][0] > 0
