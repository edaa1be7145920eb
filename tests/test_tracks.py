"""The two projections, visibility, lifting and displacement."""
import dataclasses

import numpy as np
import pytest
import torch
from handmade_clip import FRAMES, HEIGHT, K, RADIUS_M, WIDTH, camera_poses, make_clip, surface_point
from hypothesis import given, settings
from hypothesis import strategies as some

from track4d_ref.cameras import invert_pose, look_at, pose_from, project, rotation_about, transform
from track4d_ref.storage import InputError
from track4d_ref.tracks import (dense_tracks, displacement_px, largest_displacement_px, lift_pixel, lift_pixels,
                                object_points, point_visibility, track_points, true_motion_track, visual_track,
                                world_spread_m)


def random_world(seed: int, frames: int = 6, count: int = 5):
    "Moving points (T, N, 3) near the origin and cameras (T, 4, 4) around them, all heads tilted."
    rng = np.random.default_rng(seed)
    xyz = np.cumsum(rng.normal(0, 0.2, (frames, count, 3)), 0) + rng.uniform(-1, 1, (count, 3))
    eyes = rng.normal(0, 0.6, (frames, 3)) + (0.5, -8, 2)
    w2c = np.stack([look_at(eye, rng.normal(0, 0.3, 3), (0, 0, 1), rng.normal(0, 0.4)) for eye in eyes])
    return xyz, w2c


def random_motion(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return pose_from(rotation_about(rng.normal(size=3), rng.uniform(-3, 3)), rng.normal(0, 5, 3))


seeds, references = some.integers(0, 10_000), some.integers(0, 5)


@given(seeds, references)
@settings(max_examples=25, deadline=None)
def test_static_camera_gives_equal_tracks(seed, reference):
    xyz, w2c = random_world(seed)
    still = np.broadcast_to(w2c[reference], w2c.shape)
    assert np.abs(visual_track(K, still, xyz)[0] - true_motion_track(K, still, xyz, reference)[0]).max() < 1e-6


@given(seeds, references)
@settings(max_examples=25, deadline=None)
def test_query_frame_is_shared(seed, reference):
    xyz, w2c = random_world(seed)
    for seen, true in zip(visual_track(K, w2c, xyz), true_motion_track(K, w2c, xyz, reference)):
        assert np.abs(seen[reference] - true[reference]).max() < 1e-9


@given(seeds, references)
@settings(max_examples=25, deadline=None)
def test_static_point_stands_still_in_true_motion_only(seed, reference):
    xyz, w2c = random_world(seed)
    static = np.broadcast_to(xyz[:1], xyz.shape)
    assert displacement_px(true_motion_track(K, w2c, static, reference)[0], reference).max() < 1e-9
    assert displacement_px(visual_track(K, w2c, static)[0], reference).max() > 1


@given(seeds, references, seeds)
@settings(max_examples=25, deadline=None)
def test_world_gauge_changes_nothing(seed, reference, motion_seed):
    xyz, w2c = random_world(seed)
    motion = random_motion(motion_seed)
    moved_xyz, moved_w2c = transform(motion, xyz), w2c @ invert_pose(motion)
    assert np.abs(visual_track(K, w2c, xyz)[0] - visual_track(K, moved_w2c, moved_xyz)[0]).max() < 1e-6
    moved = true_motion_track(K, moved_w2c, moved_xyz, reference)
    assert np.abs(true_motion_track(K, w2c, xyz, reference)[0] - moved[0]).max() < 1e-6


@given(seeds, references, seeds)
@settings(max_examples=25, deadline=None)
def test_true_motion_ignores_the_rest_of_the_camera_path(seed, reference, other_seed):
    xyz, w2c = random_world(seed)
    other = random_world(other_seed)[1]
    other[reference] = w2c[reference]
    assert np.array_equal(true_motion_track(K, w2c, xyz, reference)[0], true_motion_track(K, other, xyz, reference)[0])


@given(seeds, references, some.floats(0.01, 100))
@settings(max_examples=25, deadline=None)
def test_scale_changes_pixels_never_and_depth_in_proportion(seed, reference, scale):
    xyz, w2c = random_world(seed)
    scaled = w2c.copy()
    scaled[:, :3, 3] *= scale
    for track in (lambda T, X: visual_track(K, T, X), lambda T, X: true_motion_track(K, T, X, reference)):
        (uv, depth), (scaled_uv, scaled_depth) = track(w2c, xyz), track(scaled, xyz * scale)
        assert np.abs(uv - scaled_uv).max() < 1e-6
        assert np.allclose(depth * scale, scaled_depth)


def test_loops_agree_with_batches_and_torch_with_numpy():
    xyz, w2c = random_world(3)
    seen, true = visual_track(K, w2c, xyz)[0], true_motion_track(K, w2c, xyz, 2)[0]
    for frame in range(len(xyz)):
        for point in range(xyz.shape[1]):
            one = xyz[frame, point][None]
            assert np.allclose(seen[frame, point], project(K, w2c[frame], one)[0][0])
            assert np.allclose(true[frame, point], project(K, w2c[2], one)[0][0])
    tensors = [torch.tensor(value) for value in (K, w2c, xyz)]
    assert np.allclose(visual_track(*tensors)[0].numpy(), seen)
    assert np.allclose(true_motion_track(*tensors, 2)[0].numpy(), true)


def test_object_points_follow_the_pose_and_are_nan_where_absent():
    clip = make_clip()
    track = object_points(clip, 1, [[0, 0, 0], [RADIUS_M, 0, 0]])
    assert track.shape == (FRAMES, 2, 3)
    assert np.allclose(track[:, 0], clip.object(1).world_from_object[:, :3, 3])
    assert np.allclose(np.linalg.norm(track[:, 1] - track[:, 0], axis=-1), RADIUS_M)
    absent = object_points(clip, 2, [[0, 0, 0]])
    assert np.isnan(absent[3]).all() and np.isfinite(np.delete(absent, 3, 0)).all()


def test_visibility_in_front_behind_and_outside():
    clip = make_clip()
    near = object_points(clip, 1, surface_point(clip, 0))
    far = object_points(clip, 1, -surface_point(clip, 0))
    floor = np.broadcast_to([[2.0, -1.0, 0.0]], (FRAMES, 1, 3))
    outside = np.broadcast_to([[0.0, 40.0, 60.0]], (FRAMES, 1, 3))
    behind = np.broadcast_to([[0.0, -40.0, 3.0]], (FRAMES, 1, 3))
    track = track_points(clip, np.concatenate([near, far, floor, outside, behind], 1))
    assert track.visible[0].tolist() == [True, False, True, False, False]
    assert track.in_frame[0].tolist() == [True, True, True, False, False]
    assert not track.visible[:, 3:].any() and (track.depth_m[:, 4] < 0).all()


def test_visibility_needs_a_measured_depth_but_sky_hides_nothing():
    clip = make_clip()
    uv, depth = np.full((FRAMES, 1, 2), 30.3), np.full((FRAMES, 1), 5.0)
    for value, expected in ((0.0, False), (np.inf, True), (4.0, False), (4.96, True), (9.0, True)):
        view = dataclasses.replace(clip.view, depth_m=np.full((FRAMES, HEIGHT, WIDTH), value, np.float32))
        assert point_visibility(view, uv, depth).all() == expected, value
    without = dataclasses.replace(clip.view, depth_m=None)
    assert point_visibility(without, uv, depth).all()
    assert not point_visibility(without, uv * np.nan, depth).any()
    border = np.array([[[0.0, 0.0]], [[WIDTH - 1e-9, HEIGHT - 1e-9]]])
    assert point_visibility(without, border, np.ones((2, 1))).all()


def test_visibility_takes_the_farthest_of_the_four_neighbours():
    clip = make_clip()
    depth = np.full((FRAMES, HEIGHT, WIDTH), 2.0, np.float32)
    depth[:, 11, 21] = 8.0                                      # pixel centre at (21.5, 11.5)
    view = dataclasses.replace(clip.view, depth_m=depth)
    for uv, expected in (((20.6, 10.6), True), ((22.4, 12.4), True), ((20.4, 11.5), False), ((21.5, 12.6), False)):
        assert point_visibility(view, np.full((FRAMES, 1, 2), uv), np.full((FRAMES, 1), 7.9)).all() == expected, uv


def test_lifted_pixels_come_back_and_ride_on_their_object():
    clip = make_clip()
    u, v = visual_track(K, clip.view.w2c, object_points(clip, 1, surface_point(clip, 2)))[0][2, 0]
    object_id, point, track = lift_pixel(clip, 0, 2, (u, v))
    assert object_id == 1 and abs(np.linalg.norm(point) - RADIUS_M) < 0.02
    assert np.allclose(visual_track(K, clip.view.w2c, track[:, None])[0][2, 0], (u, v), atol=1e-4)
    pose = clip.object(1).world_from_object
    assert np.allclose(transform(invert_pose(pose), track[:, None])[:, 0], point, atol=1e-9)
    floor_id, floor_point, floor_track = lift_pixel(clip, 0, 0, (5.5, HEIGHT - 3.5))
    assert floor_id == 0 and abs(floor_point[2]) < 1e-5 and np.array_equal(floor_track, np.tile(floor_point, (FRAMES, 1)))


def test_dense_tracks_agree_with_single_pixels_and_with_the_masks():
    clip = make_clip()
    uv, ids, tracks = dense_tracks(clip, 0, 1, step=5)
    assert tracks.shape == (FRAMES, len(uv), 3) and np.isfinite(tracks).all()
    for index in (0, len(uv) // 2, int(np.argmax(ids))):
        object_id, _, track = lift_pixel(clip, 0, 1, uv[index])
        assert object_id == ids[index] and np.allclose(track, tracks[:, index])
    all_uv, _, all_tracks = dense_tracks(clip, 0, 1)
    assert len(all_uv) == np.isfinite(clip.view.depth_m[1]).sum()
    seen = track_points(clip, all_tracks)
    assert np.abs(seen.uv_px[1] - all_uv).max() < 1e-9 and seen.visible[1].mean() == 1.0


def test_lifting_says_what_is_wrong():
    clip = make_clip()
    for arguments, word in (((0, 99, (1, 1)), 'frame 99'), ((0, 0, (WIDTH + 1, 1)), 'outside'), ((0, 0, (1, -1)), 'outside')):
        with pytest.raises(InputError, match=word): lift_pixel(clip, *arguments)
    blind = dataclasses.replace(clip, views=(dataclasses.replace(clip.view, depth_m=None),))
    with pytest.raises(InputError, match='no depth'): lift_pixels(blind, 0, 0, np.zeros((1, 2)))
    hole = dataclasses.replace(clip.view, depth_m=np.zeros_like(clip.view.depth_m))
    with pytest.raises(InputError, match='no depth'): lift_pixel(dataclasses.replace(clip, views=(hole,)), 0, 0, (5, 5))
    with pytest.raises(InputError, match='frame 7'): track_points(clip, np.zeros((FRAMES, 1, 3)), reference=FRAMES)


def test_pixels_of_an_object_without_pose_are_left_out():
    clip = make_clip()
    strange = dataclasses.replace(clip.view, instances=clip.view.instances * 9)      # id 9 has no object
    clip = dataclasses.replace(clip, views=(strange,))
    _, ids, _ = dense_tracks(clip, 0, 0)
    assert set(ids) == {0}


def test_spread_and_displacement_by_hand():
    track = np.array([[0.0, 0, 0], [0, 0, 2], [np.nan] * 3, [0, 0, 4]])
    assert np.isclose(world_spread_m(track), np.sqrt(8 / 3))
    assert np.allclose(world_spread_m(np.stack([track, track * 0], 1)), [np.sqrt(8 / 3), 0])
    uv = np.array([[[0.0, 0]], [[3, 4]], [[30, 40]], [[np.nan, 0]]])
    depth = np.array([[1.0], [1], [-1], [1]])
    assert displacement_px(uv, 1)[0, 0] == 5
    assert largest_displacement_px(uv, depth, 0).tolist() == [5.0]


def test_same_true_motion_for_still_and_moving_camera():
    moving, still = make_clip(True), make_clip(False)
    assert np.allclose(camera_poses(True)[0], camera_poses(False)[0])
    points = np.random.default_rng(0).uniform(-0.4, 0.4, (4, 3))
    first = track_points(moving, object_points(moving, 1, points), reference=0)
    second = track_points(still, object_points(still, 1, points))
    assert np.abs(first.uv_px - second.uv_px).max() < 1e-6
