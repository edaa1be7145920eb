"Every trap of the formats, and the test that would notice: a table that is itself checked, and the traps that had no other place."
import ast
import os
from pathlib import Path

import numpy as np
import pytest

from small_sources import ORBIT, write_kitti, write_tapvid3d, write_vkitti
from track4d_ref.cameras import invert_pose, transform
from track4d_ref.kitti import SIZES_BY_FOCAL, camera_poses, read_kitti_calibration, read_kitti_labels, read_kitti_tracking
from track4d_ref.point_tracks import read_tapvid3d
from track4d_ref.shift import shift_rows
from track4d_ref.vkitti import read_vkitti
from track4d_ref.wildtrack import read_wildtrack

DATA = Path(os.environ.get('TRACK4D_DATA', 'absent'))
need = lambda name: pytest.mark.skipif(not (DATA / name).exists(), reason=f'TRACK4D_DATA has no {name}')

# (data set, trap, file, test)
TRAPS = [
    ('all', 'integer pixel centres move by half a pixel', 'aria', 'test_small_adt_clip'),
    ('all', 'quaternions: xyzw (ADT trajectory, TUM) or wxyz (ADT objects, HOT3D, Kubric)', 'rgbd', 'test_quaternion_orders_differ_and_match_a_known_turn'),
    ('all', 'depth: millimetres, centimetres, fifths; far and invalid values; planar or ray length', 'rgbd', 'test_depth_units_and_meanings'),
    ('KITTI', 'two calibration dialects, with and without colon', 'kitti', 'test_both_dialects_give_the_same_camera'),
    ('KITTI', 'sizes h w l, place = middle of the bottom face', 'kitti', 'test_box_is_centred_half_a_height_above_the_label_with_the_front_at_ry'),
    ('KITTI', 'fourth column of P2', 'kitti', 'test_fourth_column_of_p2_matters'),
    ('KITTI', 'P3 − P2 is the stereo baseline', 'traps', 'test_kitti_baseline'),
    ('KITTI', 'DontCare by type; Person is Person_sitting', 'kitti', 'test_person_types_and_dontcare'),
    ('KITTI', 'K and image size change with the sequence', 'traps', 'test_kitti_size_follows_the_focal_length'),
    ('KITTI', 'alpha = ry − atan2(x, z)', 'traps', 'test_kitti_alpha'),
    ('KITTI', 'oxts: Mercator, roll pitch yaw, IMU axes', 'kitti', 'test_parked_car_stands_and_car_ahead_drives_with_oxts'),
    ('KITTI', 'gravity, not the camera, says what is up', 'kitti', 'test_up_follows_gravity_when_the_car_rolls'),
    ('KITTI', 'rows of oxts in the order of time', 'hostile', 'test_shuffled_gps_is_no_drive'),
    ('KITTI', 'SLAM drifts, oxts does not', 'kitti', 'test_orbslam_trajectory_and_sequences_without_oxts'),
    ('KITTI', 'without poses nothing may be said about the world', 'questions', 'test_a_clip_without_objects_or_poses_is_asked_only_what_is_known'),
    ('KITTI odometry', '12 numbers, 3×4 row-major, first ← i', 'traps', 'test_kitti_odometry_trajectory'),
    ('WildTrack', 'centimetres; Rodrigues w2c; plain-text XML', 'crowds', 'test_xml_calibration_and_annotated_people'),
    ('WildTrack', 'ID % 480 is x', 'crowds', 'test_x_is_the_fast_index'),
    ('WildTrack', 'each camera its own calibration', 'crowds', 'test_painted_dots_meet_the_projected_grid'),
    ('WildTrack', 'no ids in the demo file: linked, and said so', 'crowds', 'test_square_cameras_and_pseudo_tracks'),
    ('WildTrack', 'two frames a second, numbered in fives', 'traps', 'test_wildtrack_two_frames_a_second'),
    ('APIDIS', 'thousands separators; local time in spite of the Z; 24-byte records', 'crowds', 'test_apidis_times_index_and_floor'),
    ('APIDIS', 'no published calibration', 'crowds', 'test_apidis_player_stands_where_the_box_ends'),
    ('Virtual KITTI 2', 'w h l, w2c, y down, bottom centre, centimetres, 65535 = far', 'driving', 'test_vkitti_orders_units_and_w2c'),
    ('Virtual KITTI 2', 'True and False are words; left right top bottom', 'driving', 'test_vkitti_words_true_and_false'),
    ('Virtual KITTI 2', 'boxes on the cars; alpha identity', 'driving', 'test_vkitti_boxes_fall_on_the_cars_and_alpha_agrees'),
    ('Virtual KITTI 2', 'instance value = trackID + 1', 'traps', 'test_vkitti_ids_are_track_plus_one'),
    ('SHIFT', 'extrinsics: c2w in degrees, or w2c in radians', 'driving', 'test_shift_two_extrinsics_are_two_conventions'),
    ('SHIFT', '(h, w, l) or (l, w, h); yaw 0 of center looks back', 'driving', 'test_shift_box_orders_and_fronts'),
    ('SHIFT', 'left-handed: clockwise stays clockwise', 'driving', 'test_shift_world_is_right_handed'),
    ('SHIFT', 'x2, y2 are inclusive', 'driving', 'test_scalabel_boxes_are_inclusive'),
    ('SHIFT', '24-bit depth, least significant first', 'driving', 'test_shift_depth_is_24_bit'),
    ('SHIFT', 'lidar: planar z, y right, half a metre ahead', 'driving', 'test_shift_lidar_agrees_with_planar_depth'),
    ('SHIFT', 'front and center name the same places', 'driving', 'test_shift_front_and_center_agree'),
    ('SHIFT', 'the ego car is among the labels of center', 'traps', 'test_shift_leaves_the_ego_car_out'),
    ('ADT', 'µs in the trajectory, ns elsewhere; scalar last', 'aria', 'test_trajectory_is_microseconds_and_scalar_last'),
    ('ADT', 'stamp −1 = static; frames and poses a tenth of a millisecond apart', 'aria', 'test_clock_keeps_frames_and_lonely_poses_and_unknown_is_absent'),
    ('ADT', 'dynamic is not moving', 'aria', 'test_only_fork_and_spoon_move'),
    ('ADT', 'turned images', 'aria', 'test_original_and_pinhole_forms_agree'),
    ('ADT', 'planar millimetres, 64-bit ids, canonical front', 'aria', 'test_adt_pixels_lie_in_their_own_boxes'),
    ('ADT, HOT3D', 'FISHEYE624 with 15 or 16 parameters', 'aria', 'test_fisheye_matches_its_formula_term_by_term'),
    ('HOT3D', 'meshes in millimetres with a node scale; wxyz', 'aria', 'test_quest3_meshes_meet_their_2d_boxes'),
    ('HOT3D', 'a calibration of another recording; which way is up', 'aria', 'test_hot3d_motion_up_and_the_strangers_calibration'),
    ('Kubric', 'camera looks along −z; depth is a ray length; focal length from the sensor width', 'rgbd', 'test_kubric_camera_looks_backwards_and_depth_is_a_ray'),
    ('Kubric', 'ray length, measured', 'rgbd', 'test_kubric_pixels_lie_in_their_boxes'),
    ('Kubric', 'flow is (row, column), scaled by 65535', 'rgbd', 'test_kubric_flow_agrees_with_projected_motion'),
    ('Kubric', 'order of the corners', 'rgbd', 'test_mirrored_kubric_corners_are_refused'),
    ('Stereo4D', 'µs, c2w 3×4, sparse tracks', 'rgbd', 'test_stereo4d_gaps_are_absence_and_times_microseconds'),
    ('stereo pair', 'rectified or not', 'rgbd', 'test_stereo_pairs_are_rectified'),
    ('7-Scenes, TUM', 'c2w; 65535 invalid; /5000; xyzw; # comments', 'rgbd', 'test_sevenscenes_and_tum_poses_are_camera_to_world'),
    ('7-Scenes', 'the first pair of frames cannot tell c2w from w2c', 'rgbd', 'test_sevenscenes_warp'),
    ('TUM', 'stamps in seconds', 'rgbd', 'test_tum_trajectory'),
    ('TAPVid-3D', 'tracks in each camera; other names in README and code', 'traps', 'test_tapvid3d_names_and_frames'),
    ('own', 'w2c or c2w', 'rgbd', 'test_own_npz_accepts_both_pose_directions'),
]


@pytest.mark.parametrize('file', sorted({file for _, _, file, _ in TRAPS}))
def test_every_trap_has_its_test(file):
    text = (Path(__file__).parent / f'test_readers_{file}.py').read_text()
    functions = {node.name: node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}
    rows = [row for row in TRAPS if row[2] == file]
    for source, trap, _, name in rows:
        print(f'{source:16} {trap} → test_readers_{file}.py::{name}')
        assert name in functions, name
        assert any(isinstance(node, ast.Assert) or 'raises' in ast.unparse(node) for node in ast.walk(functions[name])), name


@need('kitti_tracking')
def test_kitti_baseline():
    calibration = read_kitti_calibration(DATA / 'kitti_tracking/training/calib/0001.txt')
    baseline_m = (calibration['P2'] - calibration['P3'])[0, 3] / calibration['P2'][0, 0]
    print(f'stereo baseline {baseline_m:.4f} m')
    assert baseline_m == pytest.approx(0.5327, abs=1e-4)


@pytest.mark.parametrize('focal, size', [(721.5377, (375, 1242)), (707.0493, (370, 1224)), (718.3351, (374, 1238)), (718.856, (376, 1241))])
def test_kitti_size_follows_the_focal_length(tmp_path, focal, size):
    root = write_kitti(tmp_path)
    path = root / 'calib/0000.txt'
    path.write_text(path.read_text().replace('P2: 700 0 600', f'P2: {focal} 0 600'))
    view = read_kitti_tracking(root, 0).view
    assert (view.height, view.width) == size and size in SIZES_BY_FOCAL.values()


@need('kitti_tracking')
def test_kitti_alpha():
    gaps = []
    for path in sorted((DATA / 'kitti_tracking/training/label_02').glob('*.txt')):
        labels = read_kitti_labels(path)
        gap = labels['alpha'] - (labels['ry'] - np.arctan2(labels['x'], labels['z']))
        gaps.append(np.abs((gap + np.pi) % (2 * np.pi) - np.pi)[labels['truncated'] == 0])
    gaps = np.concatenate(gaps)
    print(f'{len(gaps)} boxes: |alpha − (ry − atan2(x, z))| median {np.median(gaps):.4f} rad, p95 {np.percentile(gaps, 95):.4f}')
    assert np.median(gaps) <= 0.004 and np.percentile(gaps, 95) <= 0.02


@need('trajectories')
def test_kitti_odometry_trajectory():
    poses, source = camera_poses(Path('x'), '0000', {}, DATA / 'trajectories/KITTI_00_gt.txt')
    path_m = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1).sum()
    print(f'KITTI 00: {len(poses)} poses, path {path_m:.1f} m')
    assert len(poses) == 4541 and path_m == pytest.approx(3724.2, abs=0.1) and np.allclose(poses[0], np.eye(4), atol=1e-8) and source == 'trajectory'


@need('wildtrack')
def test_wildtrack_two_frames_a_second():
    clip = read_wildtrack(DATA / 'wildtrack', 3, 9, cameras=(2,))
    assert clip.times_s.tolist() == [0, 0.5, 1, 1.5, 2, 2.5] and clip.meta['first_frame'] == 15


def test_vkitti_ids_are_track_plus_one(tmp_path):
    from PIL import Image
    folder = write_vkitti(tmp_path) / 'Scene01/clone'
    for t in range(4):
        place = folder / f'frames/instanceSegmentation/Camera_0/instancegt_{t:05d}.png'
        place.parent.mkdir(parents=True, exist_ok=True)
        ids = np.zeros((375, 1242), np.uint8)
        ids[200:220, 600:640], ids[0:4, 0:4] = 6, 77                      # track 5, and somebody who is not in the table
        Image.fromarray(ids).save(place)
    clip = read_vkitti(folder)
    assert clip.objects[0].id == 6 and set(np.unique(clip.view.instances)) == {0, 6}


@need('shift_sample')
def test_shift_leaves_the_ego_car_out():
    rows = shift_rows(DATA / 'shift_sample/discrete/images/val', ['center'], '007b-4e72')
    text = (DATA / 'shift_sample/discrete/images/val/center/det_3d.json').read_text()
    assert text.count('"box3d"') == 9 and len(rows) == 8


def test_tapvid3d_names_and_frames(tmp_path):
    path = write_tapvid3d(tmp_path) / 'clip.npz'
    arrays = dict(np.load(path))
    bare = read_tapvid3d(path)
    assert not bare.meta['camera_poses_known']
    world_m = np.array([[0.2, 0.1, 0.5], [-0.3, 0.2, 0.4]])
    other = {'tracks_xyz': transform(ORBIT, np.repeat(world_m[None], 4, 0)), 'intrinsics': arrays['fx_fy_cx_cy'],
             'visibility': arrays['visibility'], 'extrinsics_w2c': ORBIT, 'images_jpeg_bytes': arrays['images_jpeg_bytes']}
    np.savez(path, **other)
    posed = read_tapvid3d(path)
    assert posed.meta['camera_poses_known'] and np.allclose([item.centers_m for item in posed.objects], world_m[:, None])
    assert np.allclose(posed.view.K[[0, 1, 0, 1], [0, 1, 2, 2]], arrays['fx_fy_cx_cy']) and np.allclose(invert_pose(posed.view.w2c), invert_pose(ORBIT))
