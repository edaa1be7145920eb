"KITTI Tracking becomes a Clip: dialects, boxes, poses, and what happens to broken files."
import os
from pathlib import Path

import numpy as np
import pytest

from track4d_ref.cameras import invert_pose, project, transform
from track4d_ref.clips import check_clip
from track4d_ref.kitti import read_kitti_calibration, read_kitti_labels, read_kitti_tracking
from track4d_ref.storage import InputError

DATA = os.environ.get('TRACK4D_DATA')
real = pytest.mark.skipif(not (DATA and Path(DATA, 'kitti_tracking').is_dir()), reason='TRACK4D_DATA has no kitti_tracking')
ROOT = Path(DATA or '.', 'kitti_tracking')

CALIBRATION = '''P0: 700 0 600 0 0 710 170 0 0 0 1 0
P1: 700 0 600 -380 0 710 170 0 0 0 1 0
P2: 700 0 600 44.8 0 710 170 0.2 0 0 1 0.003
P3: 700 0 600 -330 0 710 170 2.2 0 0 1 0.003
R0_rect: 1 0 0 0 1 0 0 0 1
Tr_velo_to_cam: 0 -1 0 0 0 0 -1 0 1 0 0 -0.27
Tr_imu_to_velo: 1 0 0 -0.8 0 1 0 0.3 0 0 1 -0.8
'''


def write_sequence(folder, rows, oxts=None, calibration=CALIBRATION):
    for name in ('label_02', 'calib', 'oxts'): (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / 'label_02/0003.txt').write_text('\n'.join(rows))
    (folder / 'calib/0003.txt').write_text(calibration)
    if oxts is not None: (folder / 'oxts/0003.txt').write_text('\n'.join(oxts))
    return folder


def label(frame=0, track=0, kind='Car', size='1.5 1.6 4.0', place='2 1.6 20', ry=0.3):
    return f'{frame} {track} {kind} 0 0 0 0 0 9 9 {size} {place} {ry}'


def oxts_row(east_m, yaw=0.0, roll=0.0):
    return f'0 {np.degrees(east_m / 6378137.0):.13f} 80 {roll} 0 {yaw} ' + '0 ' * 24


def projected_iou(uv_px, box, width, height):
    left, top, right, bottom = *uv_px.min(0), *uv_px.max(0)
    left, right, top, bottom = max(left, 0), min(right, width), max(top, 0), min(bottom, height)
    both = max(0, min(right, box[2]) - max(left, box[0])) * max(0, min(bottom, box[3]) - max(top, box[1]))
    return both / ((right - left) * (bottom - top) + (box[2] - box[0]) * (box[3] - box[1]) - both)


def test_both_dialects_give_the_same_camera(tmp_path):
    first, second = tmp_path / 'a.txt', tmp_path / 'b.txt'
    first.write_text(CALIBRATION)
    second.write_text(CALIBRATION.replace('R0_rect:', 'R_rect').replace('Tr_velo_to_cam:', 'Tr_velo_cam')
                      .replace('Tr_imu_to_velo:', 'Tr_imu_velo'))
    one, two = read_kitti_calibration(first), read_kitti_calibration(second)
    assert one.keys() == two.keys() == {'P0', 'P1', 'P2', 'P3', 'R_rect', 'Tr_velo_cam', 'Tr_imu_velo'}
    assert all((one[key] == two[key]).all() for key in one)


def test_box_is_centred_half_a_height_above_the_label_with_the_front_at_ry(tmp_path):
    clip = read_kitti_tracking(write_sequence(tmp_path, [label()]), 3)
    car, view = clip.objects[0], clip.view
    check_clip(clip)
    assert np.allclose(car.size_m, (4.0, 1.6, 1.5))
    assert np.allclose(car.centers_m[0], (2, 1.6 - 0.75, 20))
    assert np.allclose(car.world_from_object[0, :3, 0], (np.cos(0.3), 0, -np.sin(0.3)))
    # KITTI's own recipe for the corners, through the 3×4 matrix
    c, s = np.cos(0.3), np.sin(0.3)
    recipe = np.array([[x, y, z] for x in (2, -2) for y in (0, -1.5) for z in (0.8, -0.8)]) @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T
    recipe_px = np.append(recipe + (2, 1.6, 20), np.ones((8, 1)), 1) @ np.array([[700, 0, 600, 44.8], [0, 710, 170, 0.2], [0, 0, 1, 0.003]]).T
    ours_px, _ = project(view.K, view.w2c[0], transform(car.world_from_object[0], car.corners_object_m))
    recipe_px = recipe_px[:, :2] / recipe_px[:, 2:]
    for corner in recipe_px: assert np.linalg.norm(ours_px - corner, axis=1).min() < 1e-9


def test_fourth_column_of_p2_matters(tmp_path):
    clip = read_kitti_tracking(write_sequence(tmp_path, [label()]), 3)
    centre = clip.objects[0].centers_m[:1]
    with_shift, _ = project(clip.view.K, clip.view.w2c[0], centre)
    without, _ = project(clip.view.K, np.eye(4), centre)
    assert with_shift[0, 0] - without[0, 0] == pytest.approx(44.8 / 20, abs=0.2)


def test_person_types_and_dontcare(tmp_path):
    rows = [label(track=1, kind='Person'), label(track=2, kind='Pedestrian'), label(track=3, kind='Misc'),
            '0 -1 DontCare -1 -1 -10 1 1 9 9 -1000 -1000 -1000 -10 -1 -1 -1']
    clip = read_kitti_tracking(write_sequence(tmp_path, rows), 3)
    assert [(thing.label, thing.agent) for thing in clip.objects] == [('sitting person', True), ('pedestrian', True), ('object', False)]


def test_parked_car_stands_and_car_ahead_drives_with_oxts(tmp_path):
    rows = [label(t, 1, place=f'2 1.6 {30 - 2 * t}') for t in range(8)] + [label(t, 2, place='-2 1.6 15', ry=-np.pi / 2) for t in range(8)]
    clip = read_kitti_tracking(write_sequence(tmp_path, rows, [oxts_row(2.0 * t) for t in range(8)]), 3)
    parked, driving = clip.objects
    assert np.ptp(parked.centers_m, axis=0).max() < 1e-3
    way = driving.centers_m[-1] - driving.centers_m[0]
    assert np.linalg.norm(way) == pytest.approx(14, abs=1e-3)
    assert way @ driving.world_from_object[0, :3, 0] == pytest.approx(14, abs=1e-3)     # x points along its travel
    assert np.allclose(clip.up, (0, 0, 1)) and np.allclose(driving.world_from_object[0, :3, 2], clip.up, atol=1e-6)


def test_up_follows_gravity_when_the_car_rolls(tmp_path):
    clip = read_kitti_tracking(write_sequence(tmp_path, [label()], [oxts_row(0, yaw=0.4, roll=0.2)]), 3)
    up_in_camera = clip.view.w2c[0, :3, :3] @ clip.up
    assert np.allclose(up_in_camera, (-np.sin(0.2), -np.cos(0.2), 0), atol=1e-6)


def test_without_poses_the_clip_says_so(tmp_path):
    clip = read_kitti_tracking(write_sequence(tmp_path, [label(0), label(4)]), 3)
    assert clip.meta['camera_poses_known'] is False and clip.frames_count == 5
    assert clip.objects[0].present.tolist() == [True, False, False, False, True]
    assert clip.view.frames is None and not clip.view.frame_valid.any()


BROKEN_ROWS = {
    'nan': label(place='nan 1 2'), 'word': label(place='x 1 2'), 'short': label()[:40], 'long': label() + ' 3', 'infinite': label(ry='inf'),
    'zero size': label(size='0 1 2'), 'negative size': label(size='-1 1 2'), 'huge size': label(size='1e9 1 2'),
    'fraction': label(frame='0.5'), 'absurd frame': label(frame=10 ** 12), 'negative frame': label(frame=-3),
    'twice': label() + '\n' + label(), 'empty': '', 'binary': 'a\0b\x01', 'overflow': label(frame='1e400'),
}


@pytest.mark.parametrize('name', BROKEN_ROWS)
def test_broken_labels_are_one_sentence(tmp_path, name):
    with pytest.raises(InputError) as caught: read_kitti_tracking(write_sequence(tmp_path, [BROKEN_ROWS[name]]), 3)
    assert '0003.txt' in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize('old, new', [('P2:', 'P9:'), ('44.8', 'nan'), ('44.8 ', ''), ('R0_rect: 1', 'R0_rect: 5'), ('P2: 700', 'P2: -700')])
def test_broken_calibration_is_one_sentence(tmp_path, old, new):
    with pytest.raises(InputError, match='0003.txt'):
        read_kitti_tracking(write_sequence(tmp_path, [label()], calibration=CALIBRATION.replace(old, new)), 3)


@pytest.mark.parametrize('rows', [['1 2 3'], [oxts_row(0).replace('80', 'nan')], ['95 ' + oxts_row(0)[2:]], ['']])
def test_broken_oxts_is_one_sentence(tmp_path, rows):
    with pytest.raises(InputError, match='0003.txt'): read_kitti_tracking(write_sequence(tmp_path, [label()], rows), 3)


def test_labels_beyond_the_poses_and_bad_spans(tmp_path):
    root = write_sequence(tmp_path, [label(frame=5)], [oxts_row(0)])
    with pytest.raises(InputError, match='poses'): read_kitti_tracking(root, 3)
    root = write_sequence(tmp_path, [label(frame=0)], [oxts_row(0)])
    for start, stop in ((0, 5), (-1, 1), (1, 1)):
        with pytest.raises(InputError, match='start and stop'): read_kitti_tracking(root, 3, start, stop)


@pytest.mark.parametrize('sequence', ['../../../etc/passwd', '/etc/passwd', '0003\0', 'absent'])
def test_sequence_stays_inside_its_root(tmp_path, sequence):
    with pytest.raises(InputError): read_kitti_tracking(write_sequence(tmp_path, [label()]), sequence)


@real
def test_numbers_of_figure_2():
    "Frames 0–20 of 0001 in the image plane of frame 0: the picture moves by hundreds of pixels, the parked cars do not."
    clip = read_kitti_tracking(ROOT, 1, stop=21)
    view, rows = clip.view, []
    for thing in clip.objects:
        if not thing.present[0]: continue
        visual_px, depth_m = project(view.K, view.w2c, thing.centers_m[:, None])
        true_px, _ = project(view.K, view.w2c[0], thing.centers_m[:, None])
        seen = thing.present & (depth_m[:, 0] > 0)
        spread_m = np.sqrt(thing.centers_m[thing.present].var(0).sum())
        rows.append([spread_m, *(np.linalg.norm(track[:, 0] - track[0, 0], axis=-1)[seen].max() for track in (visual_px, true_px))])
        print(f'{thing.caption} {thing.id}: spread {rows[-1][0]:.3f} m, visual {rows[-1][1]:.1f} px, true motion {rows[-1][2]:.1f} px')
    static = np.array([row for row in rows if row[0] < 0.5])
    print(f'{len(static)} of {len(rows)} static: median visual {np.median(static[:, 1]):.1f} px, true motion {np.median(static[:, 2]):.1f} px')
    assert len(static) >= 5 and np.median(static[:, 1]) >= 300 and np.median(static[:, 2]) <= 10


@real
def test_projected_boxes_meet_the_labelled_boxes():
    values = []
    for path in sorted((ROOT / 'training/label_02').glob('*.txt')):
        labels = read_kitti_labels(path)
        clip = read_kitti_tracking(ROOT, path.stem)
        for thing in clip.objects:
            view = clip.view
            uv_px, depth_m = project(view.K, view.w2c, transform(thing.world_from_object, thing.corners_object_m))
            for row in np.flatnonzero((labels['track_id'] + 1 == thing.id) & (labels['truncated'] == 0)):
                frame = labels['frame'][row]
                if depth_m[frame].min() < 0.1: continue
                box = [labels[name][row] for name in ('left', 'top', 'right', 'bottom')]
                values.append(projected_iou(uv_px[frame], box, view.width, view.height))
    print(f'{len(values)} untruncated boxes: median IoU of projected 3D box and 2D label {np.median(values):.4f}')
    assert len(values) > 5000 and np.median(values) >= 0.97


def spread_m(xyz_m):
    return np.sqrt(xyz_m.var(0).sum())


@real
def test_parked_cars_stand_still_only_in_the_world():
    "Cars and vans of 0001 with more than 25 frames, their rows within 30 m; a truncated box is a guess, so it is counted apart."
    clip, labels = read_kitti_tracking(ROOT, 1), read_kitti_labels(ROOT / 'training/label_02/0001.txt')
    w2c = clip.view.w2c
    path_m = np.linalg.norm(np.diff(invert_pose(w2c)[:, :3, 3], axis=0), axis=1).sum()
    rows = []
    for thing in clip.objects:
        if thing.label not in ('car', 'van') or thing.present.sum() <= 25 or spread_m(thing.centers_m[thing.present]) > 0.5: continue
        in_camera_m = transform(w2c, thing.centers_m[:, None])[:, 0]
        near = thing.present & (np.linalg.norm(in_camera_m, axis=-1) < 30)
        whole = near.copy()
        whole[labels['frame'][(labels['track_id'] + 1 == thing.id) & (labels['truncated'] > 0)]] = False
        if whole.sum() < 3: continue
        rows.append([spread_m(thing.centers_m[whole]), spread_m(in_camera_m[whole]), spread_m(thing.centers_m[near])])
    world_m, camera_m, with_truncated_m = np.median(rows, axis=0)
    print(f'path {path_m:.1f} m; {len(rows)} parked cars within 30 m: median spread {world_m:.3f} m in the world, '
          f'{camera_m:.2f} m in the camera, {with_truncated_m:.3f} m in the world with truncated boxes')
    assert path_m == pytest.approx(332.9, abs=1) and len(clip.objects) == 98 and clip.frames_count == 447
    assert len(rows) >= 20 and world_m <= 0.1 and with_truncated_m < 0.12 and camera_m > 1


@real
def test_orbslam_trajectory_and_sequences_without_oxts():
    slam = read_kitti_tracking(ROOT, 1, trajectory=ROOT / 'orbslam3_poses/0001/CameraTrajectory.txt')
    path_m = np.linalg.norm(np.diff(invert_pose(slam.view.w2c)[:, :3, 3], axis=0), axis=1).sum()
    print(f'ORB-SLAM3 path {path_m:.1f} m')
    assert path_m == pytest.approx(343.1, abs=1) and slam.meta['poses'] == 'trajectory'
    bare = read_kitti_tracking(ROOT, 16)
    assert bare.view.frame_valid.sum() == 3 and (bare.view.height, bare.view.width) == (370, 1224)
    assert not bare.meta['camera_poses_known']


@real
def test_moving_cars_point_along_their_travel():
    clip = read_kitti_tracking(ROOT, 1)
    cosines = []
    for thing in clip.objects:
        places = np.flatnonzero(thing.present)
        way = thing.centers_m[places[-1]] - thing.centers_m[places[0]]
        if thing.label not in ('car', 'van') or np.linalg.norm(way) < 5: continue
        cosines.append(way @ thing.world_from_object[places, :3, 0].mean(0) / np.linalg.norm(way))
    print(f'{len(cosines)} moving cars: cosine of heading and travel {np.round(cosines, 3).tolist()}')
    assert len(cosines) >= 3 and np.median(cosines) > 0.95
