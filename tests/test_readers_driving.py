"Virtual KITTI 2 and SHIFT: column orders, depth units, two extrinsics, left-handed axes."
import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from track4d_ref.cameras import project
from track4d_ref.clips import check_clip
from track4d_ref.shift import (inclusive_box, read_shift, shift_box, shift_camera_pose,
                               shift_center_pose, shift_depth, shift_frames, shift_rows)
from track4d_ref.vkitti import read_vkitti, read_vkitti_boxes, read_vkitti_poses
from track4d_ref.raw import read_picture
from track4d_ref.storage import InputError

DATA = Path(os.environ.get('TRACK4D_DATA', 'absent'))
SHIFT = DATA / 'shift_sample/discrete/images/val'
shift = pytest.mark.skipif(not SHIFT.is_dir(), reason='TRACK4D_DATA has no shift_sample')
vkitti = pytest.mark.skipif(not (DATA / 'vkitti2_snippets').is_dir(), reason='TRACK4D_DATA has no vkitti2_snippets')

POSE_HEAD = ('frame cameraID trackID alpha width height length world_space_X world_space_Y world_space_Z rotation_world_space_y '
             'rotation_world_space_x rotation_world_space_z camera_space_X camera_space_Y camera_space_Z rotation_camera_space_y '
             'rotation_camera_space_x rotation_camera_space_z')


def write_vkitti(folder, frames=3, pose=None, extrinsic=None, depth=False):
    folder.mkdir(parents=True)
    rows = [f'{t} 0 5 0 1.8 1.4 4.2 2 1.5 {20 + t} -1.5708 0 0 0 0 0 0 0 0' for t in range(frames)]
    poses = [f'{t} 0 1 0 0 0 0 1 0 0 0 0 1 {-2 * t} 0 0 0 1' for t in range(frames)]
    head = 'frame cameraID r1,1 r1,2 r1,3 t1 r2,1 r2,2 r2,3 t2 r3,1 r3,2 r3,3 t3 0 0 0 1'
    (folder / 'pose.txt').write_text('\n'.join([POSE_HEAD] + (pose or rows)))
    (folder / 'extrinsic.txt').write_text('\n'.join([head] + (extrinsic or poses)))
    (folder / 'intrinsic.txt').write_text('\n'.join(['frame cameraID K[0,0] K[1,1] K[0,2] K[1,2]'] + [f'{t} 0 725 720 620.5 187' for t in range(frames)]))
    (folder / 'info.txt').write_text('trackID label model color\n5 Van Hatchback Blue')
    if depth:
        place = folder / 'frames/depth/Camera_0'
        place.mkdir(parents=True)
        for t in range(frames): Image.fromarray(np.full((375, 1242), 65535 if t else 1234, np.uint16)).save(place / f'depth_{t:05d}.png')
    return folder


def test_vkitti_orders_units_and_w2c(tmp_path):
    clip = read_vkitti(write_vkitti(tmp_path / 'Scene01/clone', depth=True))
    check_clip(clip)
    van = clip.objects[0]
    assert van.caption == 'blue van' and np.allclose(van.size_m, (4.2, 1.8, 1.4))          # the file says w h l
    assert np.allclose(van.centers_m[0], (2, 1.5 - 0.7, 20))                                # bottom centre, y down
    assert np.allclose(van.world_from_object[0, :3, 0], (0, 0, 1), atol=1e-4)               # drives along +z
    _, depth_m = project(clip.view.K, clip.view.w2c, van.centers_m[:, None])
    assert np.allclose(depth_m[:, 0], (20, 19, 18))                                         # w2c: the camera follows
    assert clip.view.depth_m[0, 0, 0] == pytest.approx(12.34) and np.isinf(clip.view.depth_m[1]).all()


@pytest.mark.parametrize('change', [
    {'pose': ['0 0 5 nan 1 1 1 0 0 0 0 0 0 0 0 0 0 0 0']}, {'pose': ['0 0 5 0 1 1']}, {'pose': ['0 0 5 0 0 1 1 0 0 0 0 0 0 0 0 0 0 0 0']},
    {'pose': ['0 0 5 0 1 1 1 0 0 0 0 0 0 0 0 0 0 0 0'] * 2}, {'extrinsic': ['0 0 1 0 0']}, {'extrinsic': ['7 0 1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1']},
    {'extrinsic': ['0 0 2 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1']}, {'extrinsic': ['0 0 1 0 0 0 0 1 0 0 0 0 x 0 0 0 0 1']}])
def test_vkitti_broken_tables(tmp_path, change):
    with pytest.raises(InputError, match=r'pose.txt|extrinsic.txt'): read_vkitti(write_vkitti(tmp_path / 'Scene01/clone', **change))


def test_vkitti_words_true_and_false(tmp_path):
    head = 'frame cameraID trackID left right top bottom number_pixels truncation_ratio occupancy_ratio isMoving\n'
    (tmp_path / 'bbox.txt').write_text(head + '0 0 1 5 9 2 4 8 0 1 True\n0 0 2 5 9 2 4 8 0 1 False')
    assert read_vkitti_boxes(tmp_path / 'bbox.txt')['isMoving'].tolist() == [True, False]
    (tmp_path / 'bbox.txt').write_text(head + '0 0 1 5 9 2 4 8 0 1 1')
    with pytest.raises(InputError, match='isMoving'): read_vkitti_boxes(tmp_path / 'bbox.txt')


@vkitti
def test_vkitti_boxes_fall_on_the_cars_and_alpha_agrees():
    folder = DATA / 'vkitti2_snippets'
    boxes, classes = read_vkitti_boxes(folder / 'bbox.txt'), read_picture(folder / 'classgt_00000.png')
    car = (classes == (255, 127, 80)).all(-1)
    covered = np.zeros_like(car)
    for left, right, top, bottom in zip(*(boxes[name].astype(int) for name in ('left', 'right', 'top', 'bottom'))):
        covered[top:bottom + 1, left:right + 1] = True
    inside_first = car[159:375, 988:1242].sum()
    print(f'{car.sum()} car pixels, {inside_first} of them in track 0, {(car & covered).sum() / car.sum():.4f} inside the boxes')
    assert car.sum() == 56273 and inside_first == 45311 and (car & covered).sum() / car.sum() > 0.97
    assert not boxes['isMoving'].any() and len(boxes['frame']) == 6
    row = read_vkitti_poses(folder / 'pose_scene18_clone_first_row.txt')
    alpha = row['rotation_camera_space_y'] - np.arctan2(row['camera_space_X'], row['camera_space_Z'])
    print(f"alpha identity holds to {abs(alpha - row['alpha'])[0]:.1e}")
    assert abs(alpha - row['alpha'])[0] <= 1e-5


def write_shift(root, front=None, frames=2):
    entry = {'videoName': 'ab', 'attributes': {}, 'intrinsics': {'focal': [640, 640], 'center': [640, 400]},
             'extrinsics': {'location': [10, 4, 1.6], 'rotation': [0, 0, 90]},
             'labels': [{'id': '3', 'category': 'car', 'attributes': {'type': 'vehicle.mini.cooper_s'},
                         'box3d': {'location': [1, 0.8, 20], 'orientation': [0, 0, 0], 'dimension': [1.5, 1.9, 3.9]}}]}
    entries = [{**entry, 'frameIndex': 10 * t, **(front or {})} for t in range(frames)]
    (root / 'front').mkdir(parents=True, exist_ok=True)
    (root / 'front/det_3d.json').write_text(json.dumps({'frames': entries}))
    return root


def test_shift_world_is_right_handed(tmp_path):
    clip = read_shift(write_shift(tmp_path))
    check_clip(clip)
    car = clip.objects[0]
    # Unreal: at (10, 4), yaw 90° = looking along +y (right of +x). Ours: at (10, −4), looking along −y.
    assert np.allclose(car.centers_m[0], (10 - 1, -4 - 20, 1.6 - 0.8), atol=1e-9)
    assert np.allclose(car.world_from_object[0, :3, 0], (-1, 0, 0), atol=1e-9) and np.allclose(car.size_m, (3.9, 1.9, 1.5))
    assert np.allclose(clip.times_s, (0, 1)) and car.caption == 'mini cooper_s'


def test_shift_two_extrinsics_are_two_conventions():
    degrees = {'location': [3, 2, 1], 'rotation': [0, 0, 90]}
    camera = shift_camera_pose(degrees, '')
    assert np.allclose(camera[:3, 3], (3, -2, 1)) and np.allclose(camera[:3, 2], (0, -1, 0), atol=1e-12)     # c2w, degrees
    centre = shift_center_pose({'location': [0, 3, 0], 'rotation': [0, 0, np.pi / 2]}, '')
    assert np.allclose(centre[:3, 3], (-3, 0, 0)) and np.allclose(centre[:3, 0], (0, 1, 0), atol=1e-12)      # inverse, radians
    assert np.linalg.det(camera[:3, :3]) == pytest.approx(1) and np.linalg.det(centre[:3, :3]) == pytest.approx(1)


def test_shift_box_orders_and_fronts():
    box = {'location': [14, 2, -0.5], 'orientation': [0, 0, np.pi], 'dimension': [4, 2, 1.5]}
    size_m, pose = shift_box(box, True, '')
    assert np.allclose(size_m, (4, 2, 1.5)) and np.allclose(pose[:3, 3], (14, -2, -0.5)) and np.allclose(pose[:3, 0], (1, 0, 0))
    size_m, pose = shift_box({**box, 'orientation': [0, -np.pi / 2, 0]}, False, '')
    assert np.allclose(size_m, (1.5, 2, 4)) and np.allclose(pose[:3, 0], (0, 0, 1)) and np.allclose(pose[:3, 2], (0, -1, 0))


def test_scalabel_boxes_are_inclusive():
    assert inclusive_box({'x1': 3, 'y1': 4, 'x2': 3, 'y2': 9}, '').tolist() == [3, 4, 4, 10]


def test_shift_depth_is_24_bit():
    depth_m = shift_depth(np.array([[[255, 255, 255], [0, 0, 1], [16, 0, 0]]], np.uint8))
    assert np.isinf(depth_m[0, 0]) and depth_m[0, 1] == pytest.approx(65536 / 2 ** 24 * 1000) and depth_m[0, 2] < 1e-3


@pytest.mark.parametrize('front', [
    {'frameIndex': 4}, {'frameIndex': -1}, {'frameIndex': 10 ** 15}, {'frameIndex': 'x'}, {'extrinsics': {}}, {'extrinsics': None},
    {'intrinsics': {'focal': [0, None], 'center': [1, 2]}}, {'labels': None}, {'labels': [{'id': 1}, {'id': '2', 'box3d': {}, 'category': 'car'}]},
    {'extrinsics': {'location': [1, 2], 'rotation': [0, 0, 0]}}, {'extrinsics': {'location': [1, 2, 1e999], 'rotation': [0, 0, 0]}}])
def test_shift_broken_json(tmp_path, front):
    with pytest.raises(InputError, match='det_3d.json'): read_shift(write_shift(tmp_path, front))


def test_shift_broken_archives(tmp_path):
    root = write_shift(tmp_path)
    for content in (b'', b'not a zip', b'PK\x03\x04' + b'\0' * 50):
        (root / 'front/img.zip').write_bytes(content)
        with pytest.raises(InputError, match='img.zip'): read_shift(root)
    with zipfile.ZipFile(root / 'front/img.zip', 'w') as archive: archive.writestr('ab/00000000_img_front.jpg', b'not a picture')
    with pytest.raises(InputError, match='img.zip'): read_shift(root)
    buffer = io.BytesIO()
    Image.new('RGB', (64, 40)).save(buffer, 'JPEG')
    with zipfile.ZipFile(root / 'front/img.zip', 'w') as archive: archive.writestr('ab/00000000_img_front.jpg', buffer.getvalue())
    with pytest.raises(InputError, match='1280×800'): read_shift(root)


@shift
def test_shift_lidar_agrees_with_planar_depth():
    "51,111 lidar points of `center` (y right) in the front camera, mounted half a metre ahead."
    clip = read_shift(SHIFT)
    check_clip(clip)
    content = zipfile.ZipFile(SHIFT / 'center/lidar.zip').read('007b-4e72/00000100_lidar_center.ply')
    points = np.frombuffer(content[content.index(b'end_header\n') + 11:], '<f4').reshape(-1, 4)[:, :3].astype(float)
    in_camera = np.stack([points[:, 1], -points[:, 2], points[:, 0] - 0.5], -1)
    uv_px, depth_m = project(clip.view.K, np.eye(4), in_camera)
    seen = (depth_m > 0) & (uv_px >= 0).all(-1) & (uv_px < (1280, 800)).all(-1)
    image_m = clip.view.depth_m[0][uv_px[seen, 1].astype(int), uv_px[seen, 0].astype(int)]
    near = image_m < 100
    planar = np.median(np.abs(image_m - depth_m[seen])[near] / depth_m[seen][near])
    ray = np.median(np.abs(image_m - np.linalg.norm(in_camera[seen], axis=1))[near] / depth_m[seen][near])
    print(f'{len(points)} points, {seen.sum()} in the picture: relative error {planar:.4f} as planar depth, {ray:.3f} as ray length')
    assert len(points) == 51111 and planar <= 0.01 < ray
    # the same points through both extrinsics: centre → world → camera
    centre = shift_center_pose(shift_frames(SHIFT, 'center', None)[1][0]['extrinsics'], '')
    world = (points * (1, -1, 1)) @ centre[:3, :3].T + centre[:3, 3]
    through_world, _ = project(clip.view.K, clip.view.w2c[0], world[seen])
    gap_px = np.linalg.norm(through_world - uv_px[seen], axis=1)
    print(f'through the world and back: median {np.median(gap_px):.3f} px')
    assert np.median(gap_px) < 0.5


@shift
def test_shift_front_and_center_agree():
    front, center = (shift_rows(SHIFT, [view], '007b-4e72') for view in ('front', 'center'))
    for id, rows in front.items():
        one, other = rows[100], center[id][100]
        gap_m = np.linalg.norm(one[3][:3, 3] - other[3][:3, 3])
        turn = np.degrees(np.arccos(np.clip(one[3][:3, 0] @ other[3][:3, 0], -1, 1)))
        print(f'pedestrian {id}: {gap_m * 1000:.2f} mm and {turn:.3f}° between front and center')
        assert gap_m <= 0.1 and turn < 1 and np.allclose(one[2], other[2], atol=1e-5)
    assert set(front) == {'9591', '9583'} and len(center) == 8


@shift
def test_shift_views_and_labels_only():
    clip = read_shift(SHIFT, views=('front', 'left_90'))
    front, left = (np.linalg.inv(view.w2c[0]) for view in clip.views)
    assert np.degrees(np.arccos(front[:3, 2] @ left[:3, 2])) == pytest.approx(90, abs=0.1)
    assert np.cross(front[:3, 2], left[:3, 2]) @ clip.up > 0.99                # left lies counter-clockwise, seen from above
    assert len(clip.objects) == 8 and clip.view.frame_valid.all() and clip.view.depth_m is not None
