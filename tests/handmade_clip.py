"""A clip made without the simulator: a ball rolls over a floor in front of a moving, rolled camera; depth by closed-form rays."""
import numpy as np

from track4d_ref.cameras import camera_center, intrinsics, invert_pose, look_at, pixel_centers, rotation_about, transform
from track4d_ref.clips import Clip, SceneObject, View

FRAMES, HEIGHT, WIDTH, RADIUS_M = 7, 60, 84, 0.6
K = intrinsics(fx=95.0, fy=88.0, cx=39.0, cy=33.0)


def ball_poses() -> np.ndarray:
    "The ball moves 1.8 m along x and turns while it rolls; (T, 4, 4)."
    poses = np.tile(np.eye(4), (FRAMES, 1, 1))
    for frame in range(FRAMES):
        poses[frame, :3, :3] = rotation_about((0, 1, 0), 0.5 * frame) @ rotation_about((0, 0, 1), 0.3)
        poses[frame, :3, 3] = (-0.9 + 0.3 * frame, 0.1 * frame, RADIUS_M)
    return poses


def camera_poses(moving: bool) -> np.ndarray:
    "A camera on an arc, its head tilted; standing still if not `moving`; (T, 4, 4)."
    steps = np.arange(FRAMES) * (0.12 if moving else 0.0)
    eyes = [(6 * np.sin(step), -6 * np.cos(step), 2.5 + 0.4 * step) for step in steps]
    return np.stack([look_at(eye, (0, 0, 0.6), (0, 0, 1), roll_rad=0.15 + 0.1 * step) for eye, step in zip(eyes, steps)])


def cast_rays(w2c: np.ndarray, center_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    "Planar depth and instance map (H, W) of the floor z = 0 and a ball."
    uv = pixel_centers(HEIGHT, WIDTH)
    in_camera = np.stack([(uv[..., 0] - K[0, 2]) / K[0, 0], (uv[..., 1] - K[1, 2]) / K[1, 1], np.ones(uv.shape[:2])], -1)
    direction = in_camera @ w2c[:3, :3]                     # one metre of planar depth long
    origin = camera_center(w2c)
    with np.errstate(divide='ignore'): floor = -origin[2] / direction[..., 2]
    floor = np.where(floor > 0, floor, np.inf)
    a, b = (direction ** 2).sum(-1), direction @ (origin - center_m)
    inside = b ** 2 - a * (((origin - center_m) ** 2).sum() - RADIUS_M ** 2)
    ball = np.where(inside > 0, (-b - np.sqrt(np.maximum(inside, 0))) / a, np.inf)
    return np.minimum(floor, ball), (ball < floor).astype(np.int32)


def make_clip(moving: bool = True, **changes) -> Clip:
    poses, w2c = ball_poses(), camera_poses(moving)
    depth, instances = (np.stack(maps) for maps in zip(*[cast_rays(w2c[t], poses[t, :3, 3]) for t in range(FRAMES)]))
    frames = np.where(instances[..., None] > 0, (200, 90, 30), (120, 130, 140)).astype(np.uint8)
    frames[(depth == np.inf)] = (170, 200, 235)
    view = View('left', K, w2c, HEIGHT, WIDTH, frames, depth.astype(np.float32), instances, np.ones(FRAMES, bool))
    ball = SceneObject(1, 'ball', 'red ball', np.full(3, 2 * RADIUS_M), poses, np.ones(FRAMES, bool), False)
    box_pose = np.tile(np.eye(4), (FRAMES, 1, 1))
    box_pose[:, :3, 3] = (1.5, 2.0, 0.5)
    box = SceneObject(2, 'box', 'blue box', np.array([1.0, 0.6, 1.0]), box_pose, np.arange(FRAMES) != 3, False)
    fields = dict(id='handmade', views=(view,), objects=(ball, box), times_s=np.arange(FRAMES) / 10.0,
                  up=np.array([0.0, 0, 1]), source='simulator', licence='CC0-1.0', meta={})
    return Clip(**{**fields, **changes})


def surface_point(clip: Clip, frame: int) -> np.ndarray:
    "The point of the ball nearest to the camera of a frame, in the ball's own frame; (1, 3)."
    pose = clip.object(1).world_from_object[frame]
    toward = camera_center(clip.view.w2c[frame]) - pose[:3, 3]
    world = pose[:3, 3] + RADIUS_M * toward / np.linalg.norm(toward)
    return transform(invert_pose(pose), world[None])
