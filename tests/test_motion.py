"Motion labels: measured geometry against hand-made answers, and the properties every labeller must have."
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from track4d_ref.cameras import look_at, pose_from, rotation_about
from track4d_ref.motion import (TRENDS, angle_signs, axis_signs, body_displacement_m, camera_angles_deg, camera_displacement_m,
                                clearly_smaller, distance_trend, join_words, movement_words, object_displacement_m,
                                path_length_m, tipping_deg, yaw_deg)
from track4d_ref.presets import load_thresholds

CUTS = load_thresholds('default')
UP = np.array([0.0, 0, 1])


def rolled_camera(eye):
    return look_at(eye, np.asarray(eye) + (1.0, 2.0, -0.3), UP, roll_rad=0.4)


def random_rigid(rng):
    return pose_from(rotation_about(rng.normal(size=3), rng.uniform(0, 3)), rng.normal(size=3) * 4)


def test_camera_displacement_is_in_the_first_cameras_axes_for_a_rolled_camera():
    first = rolled_camera((3.0, -1.0, 2.0))
    steps = np.array([[0, 0, 0], [0.5, -0.25, 1.0], [1.0, 0.5, 3.0], [1.25, 0.75, 2.5], [2, 0, 2.0]])   # wanted, in camera axes
    eyes = (steps - first[:3, 3]) @ first[:3, :3]
    w2c = np.stack([first] + [look_at(eye, eye + (0.2, 1, 0), UP, roll_rad=-0.1 * n) for n, eye in enumerate(eyes[1:])])
    assert np.allclose(camera_displacement_m(w2c), steps)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_world_gauge_changes_no_measurement(seed):
    rng = np.random.default_rng(seed)
    w2c = np.stack([random_rigid(rng) for _ in range(5)])
    poses = np.stack([random_rigid(rng) for _ in range(5)])
    gauge = random_rigid(rng)
    back = np.linalg.inv(gauge)
    assert np.allclose(camera_displacement_m(w2c), camera_displacement_m(w2c @ back), atol=1e-9)
    assert np.allclose(camera_angles_deg(w2c), camera_angles_deg(w2c @ back), atol=1e-6)
    moved = gauge @ poses
    assert np.allclose(object_displacement_m(w2c[0], poses[:, :3, 3]), object_displacement_m(w2c[0] @ back, moved[:, :3, 3]), atol=1e-9)
    assert np.allclose(body_displacement_m(poses), body_displacement_m(moved), atol=1e-9)
    assert np.allclose(yaw_deg(poses[:, :3, :3], UP), yaw_deg(moved[:, :3, :3], gauge[:3, :3] @ UP), atol=1e-6)
    assert np.isclose(path_length_m(poses[:, :3, 3]), path_length_m(moved[:, :3, 3]))


@pytest.mark.parametrize('axis,angle,expected', [((0, 1, 0), 0.3, (17.1887, 0, 0)), ((1, 0, 0), 0.3, (0, 17.1887, 0)), ((0, 0, 1), 0.3, (0, 0, 17.1887))])
def test_each_head_movement_alone(axis, angle, expected):
    first = rolled_camera((1, 2, 3))
    second = pose_from(rotation_about(axis, angle).T, np.zeros(3)) @ first
    assert np.allclose(camera_angles_deg(np.stack([first, second]))[-1], expected, atol=1e-3)


def test_what_the_signs_look_like_in_the_picture():
    point = np.array([0.2, -0.1, 4.0, 1])
    turn = lambda axis, angle: pose_from(rotation_about(axis, angle).T, np.zeros(3)) @ point
    seen = lambda xyz: xyz[:2] / xyz[2]
    assert seen(turn((0, 1, 0), 0.1))[0] < seen(point)[0]      # pan right: the picture slides left
    assert seen(turn((1, 0, 0), 0.1))[1] > seen(point)[1]      # tilt up: the picture sinks
    x, y = seen(turn((0, 0, 1), 0.1)), seen(point)
    assert y[0] * x[1] - y[1] * x[0] < 0                       # roll clockwise: the picture turns counterclockwise (y is down)


def test_yaw_is_counterclockwise_from_above_and_unwraps():
    angles = np.array([0, 50, 130, 220, 330, 470.0])
    rotations = np.stack([rotation_about((0, 0, 1), np.deg2rad(a)) for a in angles]) @ rotation_about((1, 1, 0), 0.7)
    assert np.allclose(yaw_deg(rotations, UP), angles)
    assert np.allclose(yaw_deg(rotations, -UP), -angles)       # seen from below
    assert tipping_deg(rotations, UP) < 1e-4
    assert np.isclose(tipping_deg(np.stack([np.eye(3), rotation_about((0, 1, 0), 0.5)]), UP), np.rad2deg(0.5))


def test_body_displacement_uses_the_vehicle_axes():
    start = pose_from(rotation_about((0, 0, 1), np.pi / 2), np.array([5.0, 1, 0]))    # looks along world y
    later = pose_from(np.eye(3), np.array([4.0, 4.0, 0.5]))
    assert np.allclose(body_displacement_m(np.stack([start, later]))[-1], (3, 1, 0.5))  # forward, left, up


@pytest.mark.parametrize('net,expected', [
    ((0, 0, 0.01), ([0, 0, 0], True)), ((0, 0, 0.04), ([0, 0, 0], False)), ((0, 0, 0.2), ([0, 0, 1], True)),
    ((0.2, 0, -0.2), ([1, 0, -1], True)), ((0.05, 0, 0.2), ([0, 0, 1], False)), ((-0.1, -0.1, 0.15), ([-1, -1, 1], True))])
def test_axis_signs_table(net, expected):
    signs, clear = axis_signs(np.array([(0, 0, 0), net]), 1.0, CUTS)
    assert bool(clear) is expected[1]
    if clear: assert signs.tolist() == expected[0]


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 50))
@settings(max_examples=60, deadline=None)
def test_axis_signs_scale_mirror_and_batch(seed, scale):
    rng = np.random.default_rng(seed)
    paths = np.cumsum(rng.normal(size=(7, 6, 3)) * 0.03 + rng.normal(size=(7, 1, 3)) * 0.05, axis=1)
    signs, clear = axis_signs(paths, 1.0, CUTS)
    scaled = axis_signs(paths * scale, scale, CUTS)
    mirrored = axis_signs(-paths, 1.0, CUTS)
    assert (signs == scaled[0]).all() and (clear == scaled[1]).all()
    assert (signs == -mirrored[0]).all() and (clear == mirrored[1]).all()
    one = [axis_signs(path, 1.0, CUTS) for path in paths]
    assert all((s == signs[n]).all() and c == clear[n] for n, (s, c) in enumerate(one))


@pytest.mark.parametrize('curve,expected', [
    ((4, 5, 6), 'increases'), ((6, 5, 4), 'decreases'), ((4, 4.1, 4.05), 'stays constant'), ((4, 5.5, 4.1), 'first increases, then decreases'),
    ((4, 3, 4.1), 'first decreases, then increases'), ((4, 4.3, 4.4), None), ((4, 3, 6), None), ((4, 6, 5.2), None), ((4, 4.5, 4), None),
    ((5, 4.9, 6.5), 'increases'), ((6, 6.2, 4), 'decreases')])
def test_distance_trend_table(curve, expected):
    code = int(distance_trend(np.array(curve, float), CUTS))
    assert (TRENDS[code] if code >= 0 else None) == expected


@given(st.lists(st.floats(0.5, 20), min_size=2, max_size=9))
@settings(max_examples=80, deadline=None)
def test_no_distance_curve_has_two_trends(values):
    curve = np.array(values)
    code = int(distance_trend(curve, CUTS))
    assert -1 <= code < len(TRENDS)
    if code == 2: assert curve[-1] > curve[0] * (1 + CUTS.distance_change)
    if code == 0: assert curve[-1] < curve[0] * (1 - CUTS.distance_change)
    if code == 1: assert np.abs(curve / curve[0] - 1).max() < CUTS.distance_change / 4 + 1e-12


def test_angle_signs_refuse_half_turns_and_head_shakes():
    time = np.linspace(0, 1, 9)
    angles = np.stack([30 * time, -12 * time, np.sin(9 * time), 5 * time, 20 * np.sin(6.28 * time)], -1)
    signs, clear = angle_signs(angles, CUTS)
    assert signs.tolist() == [1, -1, 0, 0, 0] and clear.tolist() == [True, True, True, False, False]


@given(st.floats(0, 100), st.floats(0, 100), st.floats(1.01, 3))
def test_comparison_is_antisymmetric_and_keeps_its_margin(first, second, ratio):
    answer = int(clearly_smaller(np.array(first), np.array(second), ratio))
    assert answer == -int(clearly_smaller(np.array(second), np.array(first), ratio))
    assert answer == 0 or max(first, second) >= ratio * min(first, second)


def test_words():
    assert join_words(['a']) == 'a' and join_words(['a', 'b', 'c']) == 'a, b and c'
    assert movement_words() == 'stays still'
    assert movement_words((1, -1, -1), (0, 1, 0)) == 'moves backward, right and up, tilts up'
    assert movement_words((0, 0, 0), (-1, 0, 1)) == 'pans left, rolls clockwise'
