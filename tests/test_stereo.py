"""Rectification, matching, the left–right check and metric depth on a rig with known truth."""
import dataclasses
import importlib.util

import numpy as np
import pytest

from track4d_ref.cameras import camera_center, intrinsics, look_at, pixel_centers, rotation_about
from track4d_ref.clips import Clip, SceneObject, View
from track4d_ref.presets import load_preset
from track4d_ref.simulator import simulate_clip
from track4d_ref.storage import InputError
from track4d_ref.stereo import (MATCHERS, bad_pixels, default_matcher, depth_from_disparity, disparity, fill_holes,
                                left_right_check, match_blocks, object_centroids, stereo_baseline_m,
                                vertical_offsets_px, with_stereo_depth)

HEIGHT, WIDTH, BASELINE_M, MAX_DISPARITY = 130, 190, 0.25, 48
BALL_M, RADIUS_M = np.array([0.2, 0.1, 1.1]), 0.5
K = intrinsics(fx=170.0, fy=160.0, cx=90.0, cy=70.0)
K_RIGHT = intrinsics(fx=170.0, fy=160.0, cx=93.5, cy=70.0)
needs_opencv = pytest.mark.skipif(importlib.util.find_spec('cv2') is None, reason='OpenCV (extra stereo) is not installed')


def texture(xyz: np.ndarray) -> np.ndarray:
    "Grey level (...) of a band-limited random pattern in space."
    rng = np.random.default_rng(5)
    waves = rng.normal(size=(40, 3)) * rng.uniform(4, 22, (40, 1))
    return 128 + 14 * np.sin(xyz @ waves.T + rng.uniform(0, 6, 40)).sum(-1)


def picture(w2c: np.ndarray, camera: np.ndarray):
    "Image, depth and mask of a slanted textured wall behind a textured ball."
    uv = pixel_centers(HEIGHT, WIDTH)
    direction = np.stack([(uv[..., 0] - camera[0, 2]) / camera[0, 0], (uv[..., 1] - camera[1, 2]) / camera[1, 1],
                          np.ones((HEIGHT, WIDTH))], -1) @ w2c[:3, :3]
    origin, normal = camera_center(w2c), np.array([0.2, -1.0, 0.1])
    wall = ((0, 2.5, 1) - origin) @ normal / (direction @ normal)
    a, b, c = (direction ** 2).sum(-1), direction @ (origin - BALL_M), ((origin - BALL_M) ** 2).sum() - RADIUS_M ** 2
    ball = np.where(b ** 2 > a * c, (-b - np.sqrt(np.maximum(b ** 2 - a * c, 0))) / a, np.inf)
    depth = np.minimum(wall, ball)
    grey = texture(origin + direction * depth[..., None]).clip(0, 255)
    return np.repeat(grey[..., None], 3, -1).astype(np.uint8), depth.astype(np.float32), (ball < wall).astype(np.int32)


def stereo_clip() -> Clip:
    "Two frames of a rolled, rectified rig."
    left_poses = np.stack([look_at((x, -3.0, 1.2), (0.1, 0, 1), (0, 0, 1), roll_rad=0.2) for x in (-0.1, 0.1)])
    right_poses = left_poses.copy()
    right_poses[:, 0, 3] -= BASELINE_M
    views = []
    for name, poses, camera in (('left', left_poses, K), ('right', right_poses, K_RIGHT)):
        frames, depth, mask = (np.stack(maps) for maps in zip(*[picture(pose, camera) for pose in poses]))
        views.append(View(name, camera, poses, HEIGHT, WIDTH, frames, depth, mask))
    pose = np.tile(np.eye(4), (2, 1, 1))
    pose[:, :3, 3] = BALL_M
    ball = SceneObject(1, 'ball', 'grey ball', np.full(3, 2 * RADIUS_M), pose, np.ones(2, bool))
    return Clip('rig', tuple(views), (ball,), np.arange(2.0), np.array([0.0, 0, 1]), 'simulator', 'CC0-1.0')


CLIP = stereo_clip()
LEFT, RIGHT = CLIP.views
TRUTH_PX = K[0, 0] * BASELINE_M / LEFT.depth_m[0] + (K[0, 2] - K_RIGHT[0, 2])


def test_baseline_and_what_is_not_rectified():
    assert np.isclose(stereo_baseline_m(LEFT, RIGHT), BASELINE_M)
    turned = RIGHT.w2c.copy()
    turned[:, :3, :3] = rotation_about((0, 1, 0), 0.01) @ turned[:, :3, :3]
    lifted = RIGHT.w2c.copy()
    lifted[:, 1, 3] += 0.02
    cases = [(dataclasses.replace(RIGHT, w2c=turned), 'rotations'), (dataclasses.replace(RIGHT, w2c=lifted), 'x axis'),
             (dataclasses.replace(RIGHT, height=HEIGHT + 1), 'sizes'), (dataclasses.replace(RIGHT, K=K * 1.1), 'fx, fy'),
             (dataclasses.replace(RIGHT, w2c=LEFT.w2c), 'to the right')]
    for wrong, word in cases:
        with pytest.raises(InputError, match=word): stereo_baseline_m(LEFT, wrong)
    with pytest.raises(InputError, match='swap'): stereo_baseline_m(RIGHT, LEFT)


@pytest.mark.parametrize('rows', [-2, 0, 1])
def test_vertical_offsets_measure_a_shifted_picture(rows):
    offsets = vertical_offsets_px(LEFT.frames[0], np.roll(RIGHT.frames[0], rows, 0), MAX_DISPARITY)
    assert len(offsets) > 10
    assert abs(np.median(offsets) - rows) < 0.15


def test_block_matcher_finds_an_exact_shift():
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 255, (40, 90, 3)).astype(np.uint8)
    found = match_blocks(wide[:, :70], wide[:, 9:79], 16)
    assert np.abs(found[6:-6, 20:-6] - 9).max() < 0.3


@pytest.mark.parametrize('matcher', ['blocks', pytest.param('sgbm', marks=needs_opencv)])
def test_disparity_equals_focal_times_baseline_over_depth(matcher):
    found = disparity(LEFT.frames[0], RIGHT.frames[0], MAX_DISPARITY, matcher)
    share, bad = np.isfinite(found).mean(), bad_pixels(fill_holes(found), TRUTH_PX)
    known = np.isfinite(found)
    print(f'{matcher}: {share:.3f} of the pixels pass the check, bad-2px after filling {bad:.4f}')
    assert share > 0.75 and bad < 0.08
    assert np.median(np.abs(found - TRUTH_PX)[known]) < 0.3


@pytest.mark.parametrize('matcher', ['blocks', pytest.param('sgbm', marks=needs_opencv)])
def test_the_check_removes_most_of_what_the_right_eye_cannot_see(matcher):
    raw = MATCHERS[matcher](LEFT.frames[0], RIGHT.frames[0], MAX_DISPARITY)
    checked = disparity(LEFT.frames[0], RIGHT.frames[0], MAX_DISPARITY, matcher)
    wrong = np.abs(raw - TRUTH_PX) > 2
    assert np.isnan(checked)[wrong].mean() > 0.7
    assert np.isfinite(checked)[~wrong].mean() > 0.85


def test_left_right_check_by_hand():
    left, right = np.array([[0.0, 1, 2, 2, np.nan]]), np.array([[1.0, 2, 9, 0, 0]])
    assert np.array_equal(left_right_check(left, right, 0.5), [[np.nan, 1, np.nan, 2, np.nan]], equal_nan=True)
    assert np.array_equal(left_right_check(left, right, 1.0), [[0, 1, 2, 2, np.nan]], equal_nan=True)


def test_holes_take_the_farther_neighbour():
    holes = np.array([[np.nan, 5, np.nan, 2, np.nan], [np.nan, np.nan, 1, np.nan, 3]])
    assert fill_holes(holes).tolist() == [[5, 5, 2, 2, 2], [1, 1, 1, 1, 3]]


def test_depth_and_bad_pixels_by_hand():
    depth = depth_from_disparity(np.array([[10.0, np.nan, -2.0, 4.0]]), focal_px=100, baseline_m=0.5, offset_px=1.0)
    assert np.allclose(depth, [[50 / 11, 0, 0, 10]])
    assert bad_pixels(np.array([1.0, 5, np.nan, 9]), np.array([2.0, 2, 2, np.nan])) == pytest.approx(2 / 3)


def test_metric_depth_and_object_centroids():
    measured = with_stereo_depth(CLIP, MAX_DISPARITY)
    known = measured.view.depth_m > 0
    error_px = K[0, 0] * BASELINE_M * np.abs(1 / measured.view.depth_m[known] - 1 / LEFT.depth_m[known])
    true_place, found_place = object_centroids(LEFT, 0)[1], object_centroids(measured.view, 0)[1]
    print(f'{default_matcher()}: median depth error worth {np.median(error_px):.3f} px, centroid off by '
          f'{1000 * np.linalg.norm(found_place - true_place):.1f} mm')
    assert np.median(error_px) < 0.3 and known.mean() > 0.75
    assert np.linalg.norm(found_place - true_place) < 0.03
    assert measured.views[1] is RIGHT


def test_stereo_says_what_is_missing():
    blind = dataclasses.replace(CLIP, views=(dataclasses.replace(LEFT, frames=None), RIGHT))
    with pytest.raises(InputError, match='pictures'): with_stereo_depth(blind, 16)
    with pytest.raises(InputError, match="choose one of blocks, sgbm"): disparity(LEFT.frames[0], RIGHT.frames[0], 16, 'magic')
    with pytest.raises(InputError, match='crop them alike'): disparity(LEFT.frames[0], RIGHT.frames[0][:-1], 16)
    with pytest.raises(InputError, match='centroids need'): object_centroids(dataclasses.replace(LEFT, depth_m=None), 0)


@needs_opencv
def test_motorcycle_pair_beside_the_block_matcher():
    images = pytest.importorskip('skimage.data', reason='scikit-image (extra stereo) is not installed')
    left, right, truth = images.stereo_motorcycle()
    scores = {name: bad_pixels(fill_holes(disparity(left, right, 64, name)), truth) for name in MATCHERS}
    print('motorcycle, bad-2px after filling:', {name: round(score, 4) for name, score in scores.items()})
    assert scores['sgbm'] < scores['blocks'] < 0.35


@pytest.mark.parametrize('matcher', ['blocks', pytest.param('sgbm', marks=needs_opencv)])
def test_simulated_rigs_of_several_rooms(matcher):
    "Bad-2px over whole pictures of simulated rigs whose floor, walls and things are textured."
    preset, scores = load_preset('tiny', ('frames=2',)), []
    for index, domain in enumerate(['indoor', 'indoor', 'indoor', 'tossed', 'heldout', 'heldout']):
        left, right = simulate_clip(21, preset, index, domain=domain, rig='stereo', baseline_m=0.2, height=180,
                                    width=260, camera_program='static').views
        truth_px = left.K[0, 0] * 0.2 / left.depth_m[0]
        scores.append(bad_pixels(fill_holes(disparity(left.frames[0], right.frames[0], 48, matcher)), truth_px))
    print(f'{matcher}, six simulated rigs, bad-2px after filling: {np.round(scores, 4).tolist()}, mean {np.mean(scores):.4f}')
    assert np.mean(scores) < 0.08
