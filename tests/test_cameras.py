import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from track4d_ref.cameras import (camera_center, camera_rays, crop_intrinsics, in_image, intrinsics, invert_pose, look_at,
                                 pixel_centers, pluecker, pose_from, project, resize_intrinsics, rotation_about, transform, unproject)

UP = np.array([0.0, 0, 1])
angles = st.floats(-3, 3)


def camera(roll_rad=0.3, eye_m=(4, -6, 3), target_m=(0.2, 0.1, 1)):
    return intrinsics(180.0, 150.0, 93.0, 66.0), look_at(eye_m, target_m, UP, roll_rad)


def points(count=11, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, 3)) + (0, 0, 1)


@settings(max_examples=50, deadline=None)
@given(angles, angles, st.integers(0, 99))
def test_unproject_undoes_project(roll_rad, turn_rad, seed):
    K, w2c = camera(roll_rad, (6 * np.cos(turn_rad), 6 * np.sin(turn_rad), 2.5))
    uv_px, depth_m = project(K, w2c, points(seed=seed))
    assert np.allclose(unproject(K, w2c, uv_px, depth_m), points(seed=seed), atol=1e-9)


def test_batch_equals_loop_and_numpy_equals_torch():
    K, _ = camera()
    poses = np.stack([camera(roll)[1] for roll in (0.0, 0.4, -1.0)])
    batch_uv_px, batch_depth_m = project(K, poses, points())
    torch_uv_px, _ = project(torch.tensor(K), torch.tensor(poses), torch.tensor(points()))
    for index, w2c in enumerate(poses):
        uv_px, depth_m = project(K, w2c, points())
        assert np.allclose(batch_uv_px[index], uv_px) and np.allclose(batch_depth_m[index], depth_m)
    assert np.allclose(torch_uv_px.numpy(), batch_uv_px, atol=1e-9)


def test_gradients():
    K, w2c = (torch.tensor(value) for value in camera())
    xyz = torch.tensor(points(3), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: project(K, w2c, x), xyz)
    uv_px, depth_m = (value.detach().requires_grad_() for value in project(K, w2c, xyz))
    assert torch.autograd.gradcheck(lambda uv, z: unproject(K, w2c, uv, z), (uv_px, depth_m))


def test_axes_right_down_forward():
    K, w2c = intrinsics(100, 90, 50, 40), look_at((0, 0, 1), (0, 5, 1), UP)   # looks along +y of the world
    uv_px, depth_m = project(K, w2c, np.array([[1.0, 5, 1], [0, 5, 2], [0, 5, 1]]))
    assert np.allclose(uv_px, [[70, 40], [50, 22], [50, 40]]) and np.allclose(depth_m, 5)


def test_positive_roll_tilts_the_head_clockwise():
    K, w2c = intrinsics(100, 100, 0, 0), look_at((0, 0, 0), (0, 5, 0), UP, roll_rad=0.3)
    (uv_px,), _ = project(K, w2c, np.array([[0.0, 5, 1]]))
    assert uv_px[0] < 0 and uv_px[1] < 0      # what is above moves to the left: the picture turns counter-clockwise


def test_inverse_and_center():
    _, w2c = camera()
    assert np.allclose(invert_pose(w2c) @ w2c, np.eye(4), atol=1e-12)
    assert np.allclose(camera_center(w2c), (4, -6, 3))
    assert np.allclose(transform(invert_pose(w2c), transform(w2c, points())), points())


@settings(max_examples=30, deadline=None)
@given(st.tuples(angles, angles, angles).filter(lambda axis: np.linalg.norm(axis) > 0.1), angles)
def test_rotation_about_is_a_rotation(axis, angle_rad):
    rotation = rotation_about(axis, angle_rad)
    assert np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-12) and np.isclose(np.linalg.det(rotation), 1)
    assert np.allclose(rotation @ np.array(axis), axis, atol=1e-9)
    assert np.isclose(np.trace(rotation), 1 + 2 * np.cos(angle_rad))


def test_rigid_motion_of_everything_changes_no_pixel():
    K, w2c = camera()
    motion = pose_from(rotation_about((1, 2, 3), 0.7), np.array([3.0, -2, 5]))
    uv_px, depth_m = project(K, w2c, points())
    moved_uv_px, moved_depth_m = project(K, w2c @ invert_pose(motion), transform(motion, points()))
    assert np.allclose(uv_px, moved_uv_px) and np.allclose(depth_m, moved_depth_m)


def test_crop_and_resize_follow_the_pixels():
    K, w2c = camera()
    uv_px, _ = project(K, w2c, points())
    new_uv_px, _ = project(resize_intrinsics(crop_intrinsics(K, 20, 10), 0.5, 0.25), w2c, points())
    assert np.allclose(new_uv_px, (uv_px - (20, 10)) * (0.5, 0.25))
    assert K[0, 2] == 93.0                    # the argument is left alone


def test_pixel_centers_are_at_a_half():
    centers = pixel_centers(3, 5)
    assert centers.shape == (3, 5, 2) and centers[2, 1].tolist() == [1.5, 2.5]


def test_in_image_knows_edges_and_behind():
    uv_px = np.array([[0.0, 0], [199.9, 119.9], [200, 50], [50, 120], [-0.1, 5], [50, 50]])
    depth_m = np.array([1.0, 1, 1, 1, 1, -1])
    assert in_image(uv_px, depth_m, 120, 200).tolist() == [True, True, False, False, False, False]


def test_pluecker_lines_slide():
    K, w2c = camera()
    origin_m, direction = camera_rays(K, w2c, pixel_centers(3, 4).reshape(-1, 2))
    lines = pluecker(origin_m, direction)
    assert np.allclose(np.linalg.norm(direction, axis=-1), 1) and np.allclose((lines[:, :3] * lines[:, 3:]).sum(-1), 0, atol=1e-12)
    assert np.allclose(lines, pluecker(origin_m - 2.5 * direction, direction))
    as_torch = pluecker(torch.tensor(origin_m), torch.tensor(direction))
    assert np.allclose(as_torch.numpy(), lines)


def test_looking_straight_up_is_refused():
    with pytest.raises(ValueError, match='parallel'): look_at((0, 0, 0), (0, 0, 1), UP)
