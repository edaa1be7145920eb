# %% [markdown]
# # Stereo
# > From a rectified pair to disparity, metric depth and the 3D place of every object.

# %%
#| default_exp stereo

# %% [markdown]
# #| export
# Rectified means: equal rotations, equal fy and cy, the right camera displaced along the left one's +x axis.
# Disparity (H, W) in pixels is u_left − u_right of the same point, NaN where unknown; depth 0 means unknown, as in `clips`.

# %% [markdown]
# * **What** rectification check, two matchers, left–right check, metric depth, object centroids
# * **Why** MLLM-4D gets its 3D truth from stereo video; this is that curation step at reduced scale
# * **Paper** MLLM-4D, data curation; matcher, checks and thresholds are **[ours]**
# * **Needs** numpy; OpenCV (extra `stereo`) for the default matcher
# * **Time** 30 seconds
# * **Before this** `01_cameras`, `02_clips`

# %%
#| export
import dataclasses
import importlib.util
import numpy as np
from track4d_ref.storage import InputError
from track4d_ref.cameras import camera_center, pixel_centers, transform, unproject
from track4d_ref.clips import Clip, View


# %%
#| export
def stereo_baseline_m(left: View, right: View) -> float:
    "The distance between two rectified cameras in metres; InputError if they are not rectified."
    names, size = f'views {left.name} and {right.name}', (left.height, left.width)
    if size != (right.height, right.width): raise InputError(f'{names}: sizes differ; rectify and crop them alike')
    if not np.allclose(left.w2c[:, :3, :3], right.w2c[:, :3, :3], atol=1e-6):
        raise InputError(f'{names}: the rotations differ; rectify the pair first')
    if not np.allclose(left.K[[0, 1, 1], [0, 1, 2]], right.K[[0, 1, 1], [0, 1, 2]], atol=1e-3):
        raise InputError(f'{names}: fx, fy or cy differ; rectify the pair first')
    offset_m = transform(left.w2c, camera_center(right.w2c)[:, None])[:, 0]  # (T, 3)
    baseline_m = offset_m[:, 0].mean()
    if baseline_m <= 0: raise InputError(f'{names}: the second camera is not to the right of the first; swap them')
    if np.abs(offset_m - (baseline_m, 0, 0)).max() > 1e-3 * baseline_m:
        raise InputError(f'{names}: the displacement is not along the x axis, or changes; rectify the pair first')
    return float(baseline_m)


# %%
#| export
def vertical_offsets_px(left: np.ndarray, right: np.ndarray, max_disparity_px: int, reach_px: int = 3,
                        radius_px: int = 7, spacing_px: int = 24) -> np.ndarray:
    """Row offsets v_right − v_left (N,) of well-textured patches on a grid; near 0 everywhere if the pair is rectified.

    Patches are matched by normalised correlation over ±`reach_px` rows and all disparities; weak matches are left out.
    """
    left, right = (np.asarray(image, dtype=np.float64).mean(-1) for image in (left, right))
    height, width = left.shape
    margin, span = radius_px + reach_px, np.arange(-radius_px, radius_px + 1)
    found = []
    for row in range(margin, height - margin, spacing_px):
        for column in range(max_disparity_px + radius_px, width - radius_px, spacing_px):
            patch = _unit(left[np.ix_(row + span, column + span)])
            rows = row + np.arange(-reach_px, reach_px + 1)
            windows = np.lib.stride_tricks.sliding_window_view(
                right[rows[0] - radius_px:rows[-1] + radius_px + 1,
                      column - max_disparity_px - radius_px:column + radius_px + 1], patch.shape)
            score = np.einsum('rcij,ij->rc', _unit(windows), patch).max(1)  # (rows,)
            if score.max() > 0.9: found.append(_peak(-score) - reach_px)
    return np.array(found)

def _unit(patches: np.ndarray) -> np.ndarray:
    centred = patches - patches.mean((-2, -1), keepdims=True)
    return centred / np.maximum(np.linalg.norm(centred, axis=(-2, -1), keepdims=True), 25.0)

def _peak(costs: np.ndarray) -> np.ndarray:
    "The place of the minimum along the first axis, refined by a parabola through it and its neighbours."
    best = costs.argmin(0)
    middle = best.clip(1, len(costs) - 2)
    before, here, after = (np.take_along_axis(costs, (middle + step)[None], 0)[0] for step in (-1, 0, 1))
    bend = before - 2 * here + after
    shift = (before - after) / (2 * np.where(bend > 1e-9, bend, 1.0))
    return best + np.where((bend > 1e-9) & (best == middle), shift, 0.0).clip(-0.5, 0.5)


# %%
#| export
def match_blocks(left: np.ndarray, right: np.ndarray, max_disparity_px: int, radius_px: int = 4) -> np.ndarray:
    "Disparity (H, W) by comparing square blocks along rows: the least mean absolute difference, capped at 40 grey levels."
    left, right = (np.asarray(image, dtype=np.float32) for image in (left, right))
    height, width = left.shape[:2]
    costs = np.full((min(max_disparity_px, width - 1) + 1, height, width), 255, np.float32)
    for shift in range(len(costs)):
        difference = np.abs(left[:, shift:] - right[:, :width - shift]).mean(-1)
        costs[shift, :, shift:] = _box_mean(np.minimum(difference, 40), radius_px)
    return _peak(costs).astype(np.float32)

def _box_mean(image: np.ndarray, radius: int) -> np.ndarray:
    "The mean over a (2 radius + 1)² window, by one integral image."
    side = 2 * radius + 1
    total = np.pad(image, ((radius + 1, radius), (radius + 1, radius)), 'edge').cumsum(0, dtype=np.float64).cumsum(1)
    return (total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]) / side ** 2


# %%
#| export
def match_sgbm(left: np.ndarray, right: np.ndarray, max_disparity_px: int, block_px: int = 5) -> np.ndarray:
    "Disparity (H, W) by OpenCV's semi-global matcher with the penalties its documentation recommends."
    if importlib.util.find_spec('cv2') is None:
        raise InputError("matcher 'sgbm' needs OpenCV; install the extra 'stereo' or choose matcher 'blocks'")
    import cv2
    count = -(-max_disparity_px // 16) * 16
    matcher = cv2.StereoSGBM_create(minDisparity=0, numDisparities=count, blockSize=block_px, preFilterCap=63,
                                    P1=8 * 3 * block_px ** 2, P2=32 * 3 * block_px ** 2, disp12MaxDiff=-1)
    padded = [np.pad(image, ((0, 0), (count, 0), (0, 0)), 'edge') for image in (left, right)]  # columns left of `count`
    disparity_px = matcher.compute(*padded)[:, count:].astype(np.float32) / 16
    return np.where(disparity_px < 0, np.nan, disparity_px)

MATCHERS = {'blocks': match_blocks, 'sgbm': match_sgbm}

def default_matcher() -> str:
    "The semi-global matcher where OpenCV is installed, else plain blocks."
    return 'sgbm' if importlib.util.find_spec('cv2') else 'blocks'


# %%
#| export
def disparity(left: np.ndarray, right: np.ndarray, max_disparity_px: int, matcher: str | None = None,
              tolerance_px: float = 1.0) -> np.ndarray:
    "Disparity (H, W) of the left picture that survives the left–right check; NaN elsewhere."
    matcher = matcher or default_matcher()
    if matcher not in MATCHERS: raise InputError(f'unknown matcher {matcher!r}; choose one of {", ".join(MATCHERS)}')
    if left.shape != right.shape: raise InputError(f'stereo pair: sizes {left.shape} and {right.shape} differ; crop them alike')
    match, mirrored = MATCHERS[matcher], [np.ascontiguousarray(image[:, ::-1]) for image in (right, left)]
    left_px = match(left, right, max_disparity_px)
    right_px = match(*mirrored, max_disparity_px)[:, ::-1]      # the right picture's own disparity
    return left_right_check(left_px, right_px, tolerance_px)

def left_right_check(left_px: np.ndarray, right_px: np.ndarray, tolerance_px: float = 1.0) -> np.ndarray:
    "The left disparity where the right picture, asked at the matched pixel, says the same; NaN elsewhere."
    partner = np.arange(left_px.shape[1]) - np.rint(np.nan_to_num(left_px)).astype(int)
    answer = np.take_along_axis(right_px, partner.clip(0), 1)
    agreed = (partner >= 0) & (np.abs(answer - left_px) <= tolerance_px)
    return np.where(agreed, left_px, np.nan)

def fill_holes(disparity_px: np.ndarray) -> np.ndarray:
    "Unknown pixels get the smaller of the nearest known disparities in their row: what is hidden lies behind."
    to_right = _carry(disparity_px)
    return np.where(np.isfinite(disparity_px), disparity_px, np.fmin(to_right, _carry(disparity_px[:, ::-1])[:, ::-1]))

def _carry(values: np.ndarray) -> np.ndarray:
    last_known = np.maximum.accumulate(np.where(np.isfinite(values), np.arange(values.shape[1]), 0), 1)
    return np.take_along_axis(values, last_known, 1)

def bad_pixels(disparity_px: np.ndarray, truth_px: np.ndarray, limit_px: float = 2.0) -> float:
    "The share of pixels with a known truth whose disparity is off by more than `limit_px` or missing (bad-2px)."
    known = np.isfinite(truth_px)
    return float((~(np.abs(disparity_px - truth_px) <= limit_px))[known].mean())


# %%
#| export
def depth_from_disparity(disparity_px: np.ndarray, focal_px: float, baseline_m: float, offset_px: float = 0.0) -> np.ndarray:
    "Planar depth in metres, z = f B / (d + offset), offset = cx_right − cx_left; 0 where the disparity is unknown or not positive."
    shifted = disparity_px + offset_px
    good = shifted > 0
    return np.where(good, focal_px * baseline_m / np.where(good, shifted, 1.0), 0.0).astype(np.float32)

def with_stereo_depth(clip: Clip, max_disparity_px: int, matcher: str | None = None, views=(0, 1)) -> Clip:
    "The clip with the left view's depth replaced by what the pair of pictures says; 0 where it says nothing."
    left, right = (clip.views[index] for index in views)
    if left.frames is None or right.frames is None: raise InputError(f'clip {clip.id}: stereo needs pictures in both views')
    baseline_m, offset_px = stereo_baseline_m(left, right), right.K[0, 2] - left.K[0, 2]
    depth_m = np.stack([depth_from_disparity(disparity(*pair, max_disparity_px, matcher), left.K[0, 0], baseline_m, offset_px)
                        for pair in zip(left.frames, right.frames)])
    measured = dataclasses.replace(left, depth_m=depth_m)
    return dataclasses.replace(clip, views=tuple(measured if index == views[0] else view for index, view in enumerate(clip.views)))

def object_centroids(view: View, frame: int) -> dict[int, np.ndarray]:
    "For every object in a frame's mask, the median (3,) of its seen surface in world metres; objects without depth are left out."
    if view.depth_m is None or view.instances is None: raise InputError(f'view {view.name}: centroids need depth and instances')
    depth_m = view.depth_m[frame].astype(np.float64)
    known = np.isfinite(depth_m) & (depth_m > 0)
    centroids = {}
    for number in np.setdiff1d(view.instances[frame][known], [0]):
        mask = known & (view.instances[frame] == number)
        uv_px = pixel_centers(view.height, view.width)[mask]
        centroids[int(number)] = np.median(unproject(view.K, view.w2c[frame], uv_px, depth_m[mask]), axis=0)
    return centroids
