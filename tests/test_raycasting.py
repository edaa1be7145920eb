"""The renderer against a slow float64 reference; batches, threads, culling and devices change nothing."""
import dataclasses

import numpy as np
import pytest
import torch

from track4d_ref import stages
from track4d_ref.cameras import camera_rays, intrinsics, look_at, pixel_centers, rotation_about
from track4d_ref.presets import load_preset
from track4d_ref.raycasting import render
from track4d_ref.scenes import Rejected
from track4d_ref.simulator import _draw, check_request, rig_poses, scene_stage
from track4d_ref.solids import BOX, ELLIPSOID, FRUSTUM
from track4d_ref.stages import Room, Solids, Stage

torch.set_num_threads(1)
HEIGHT, WIDTH = 54, 81


def make_stage(seed: int, open_sky: bool = False, frames: int = 3) -> Stage:
    rng = np.random.default_rng(seed)
    kind, half = np.array([ELLIPSOID, BOX, FRUSTUM, FRUSTUM]), rng.uniform(0.3, 0.8, (4, 3))
    pose = np.tile(np.eye(4), (frames, 4, 1, 1))
    for s in range(4):
        for f in range(frames): pose[f, s, :3, :3] = rotation_about(rng.normal(size=3), rng.uniform(0, 3))
    pose[..., :3, 3] = rng.uniform((-1, -2, 0.5), (2.5, 2, 1.5), (frames, 4, 3))
    solids = Solids(kind, half, np.array([1, 1, 0.0, 0.6]), np.array([5, 2, 7, 4]),
                    rng.uniform(size=(4, 2, 3)), rng.integers(0, 12, 4),
                    np.full(4, 1.1), np.full(4, 0.3), np.ones(4, bool), pose)
    light = np.array([0.4, -0.3, 0.8]) / np.linalg.norm([0.4, -0.3, 0.8])
    room = Room(np.array([-6.0, -5, 0]), np.array([5.0, 6, 3.5]), rng.uniform(0.3, 0.8, (6, 2, 3)),
                rng.integers(0, 12, 6), np.full(6, 2.0),
                open_sky, np.full((2, 3), 0.7), light, 0.05, np.full(3, 0.8), np.full(3, 0.4))
    K = np.tile(intrinsics(71.0, 64.0, 37.0, 30.5), (frames, 1, 1))
    w2c = np.stack([look_at((-4.5, 0.4 * f, 1.6), (0, 0.2, 0.7), (0, 0, 1), roll_rad=0.3)
                    for f in range(frames)])
    return Stage(solids, room, K, w2c, HEIGHT, WIDTH)


def marched_instances(stage: Stage, frame: int, points: np.ndarray) -> np.ndarray:
    "Which solid holds each world point (N, 3), -1 for none; float64."
    found = np.full(len(points), -1)
    for s, kind in enumerate(stage.solids.kind):
        pose = stage.solids.world_from_solid[frame, s]
        x, y, z = (((points - pose[:3, 3]) @ pose[:3, :3]) / stage.solids.half_m[s]).T
        taper = stage.solids.taper[s]
        within = {ELLIPSOID: x * x + y * y + z * z <= 1,
                  BOX: np.maximum(np.maximum(abs(x), abs(y)), abs(z)) <= 1,
                  FRUSTUM: (abs(z) <= 1) & (x * x + y * y <= ((1 + taper) / 2
                                                              + (taper - 1) / 2 * z) ** 2)}[kind]
        found[within & (found < 0)] = stage.solids.instance[s]
    return found


def test_depth_and_instances_against_marching():
    stage = make_stage(1)
    _, depth, instances = render([stage])[0]
    uv, steps = pixel_centers(HEIGHT, WIDTH)[::5, ::7].reshape(-1, 2), np.arange(0.06, 12, 0.01)
    for frame in range(3):
        eye, direction = camera_rays(stage.K[frame], stage.w2c[frame], uv)
        direction = direction / (direction @ stage.w2c[frame, 2, :3])[:, None]             # planar depth 1
        points = eye[:, None] + steps[:, None] * direction[:, None]
        solid = marched_instances(stage, frame, points.reshape(-1, 3)).reshape(len(uv), -1)
        outside = (points < stage.room.low_m).any(-1) | (points > stage.room.high_m).any(-1)
        first = (outside | (solid >= 0)).argmax(1)
        expected = np.maximum(solid[np.arange(len(uv)), first], 0)
        seen, depth_here = instances[frame, ::5, ::7].ravel(), depth[frame, ::5, ::7].ravel()
        agree = seen == expected
        assert agree.mean() > 0.99 and len(np.unique(seen)) > 3
        assert np.abs(depth_here - steps[first])[agree].max() < 0.0101


@pytest.mark.parametrize('open_sky', [False, True])
def test_batches_threads_and_smoothing_do_not_change_bytes(open_sky):
    scenes = [make_stage(seed, open_sky, frames=2 + seed) for seed in range(3)]
    together = render(scenes)
    torch.set_num_threads(2)
    try: alone = [render([scene])[0] for scene in scenes]
    finally: torch.set_num_threads(1)
    for one, other, scene in zip(together, alone, scenes):
        for a, b in zip(one, other): assert a.tobytes() == b.tobytes()
        plain = render([scene], smooth=False)[0]
        assert (plain[1] == one[1]).all() and (plain[2] == one[2]).all() and (plain[0] != one[0]).any()
        assert np.isinf(one[1]).any() == open_sky and (one[2][np.isinf(one[1])] == 0).all()


@pytest.mark.parametrize('domain', ['driving', 'indoor', 'heldout'])
def test_culling_changes_nothing(monkeypatch, domain):
    preset, request = load_preset('tiny', ('frames=4',)), check_request({'domain': domain, 'height': 40,
        'width': 56})
    rng = np.random.default_rng(4)
    while True:
        try:
            scene = _draw(rng, preset, request)
            break
        except Rejected: continue
    stage = scene_stage(scene, rig_poses(scene, request))
    culled = render([stage])[0]

    def whole(stage, xyz_world, size, offset):
        boxes = np.zeros((*xyz_world.shape[:2], 4), np.int64)
        boxes[..., 2:] = size[::-1]
        return boxes
    monkeypatch.setattr(stages, '_screen_boxes', whole)
    full = render([stage])[0]
    assert (culled[1] == full[1]).all() and (culled[2] == full[2]).all()
    assert np.abs(culled[0].astype(int) - full[0]).max() <= 1


def test_each_solid_alone_agrees_with_the_depth_test():
    stage = make_stage(3)
    _, depth, instances = render([stage])[0]
    nearest, owner = np.full(depth.shape, np.inf, np.float32), np.zeros(depth.shape, np.int32)
    for s in range(4):
        alone = {field.name: getattr(stage.solids, field.name)[s:s + 1]
                 for field in dataclasses.fields(Solids)[:-1]}
        solids = Solids(**alone, world_from_solid=stage.solids.world_from_solid[:, s:s + 1])
        _, its_depth, its_mask = render([dataclasses.replace(stage, solids=solids)])[0]
        closer = (its_mask > 0) & (its_depth < nearest)
        nearest[closer], owner[closer] = its_depth[closer], its_mask[closer]
    assert (owner == instances).all()
    assert (depth[owner > 0] == nearest[owner > 0]).all()


def test_shadow_and_highlight_change_the_picture_only():
    stage = make_stage(5)
    dark = dataclasses.replace(stage, solids=dataclasses.replace(stage.solids, shadow=np.zeros(4, bool)))
    (frames, depth, _), (unshaded, same_depth, _) = render([stage])[0], render([dark])[0]
    assert (depth == same_depth).all()
    assert (frames <= unshaded).all() and (frames < unshaded).any(-1).mean() > 0.01


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
def test_cuda_gives_the_same_pictures():
    stage = make_stage(2)
    for a, b in zip(render([stage])[0][1:], render([stage], 'cuda')[0][1:]):
        assert (np.isclose(a, b, rtol=1e-4) | (a == b)).mean() > 0.999
