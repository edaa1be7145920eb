"""Intersections against dense marching along the ray, normals against finite differences."""
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from track4d_ref.solids import BOX, ELLIPSOID, FAR, FRUSTUM, INTERSECT, solid_normal


def inside(kind, point, taper):
    x, y, z = point
    if kind == ELLIPSOID: return x * x + y * y + z * z <= 1
    if kind == BOX: return np.abs(point).max(0) <= 1
    return (np.abs(z) <= 1) & (x * x + y * y <= ((1 + taper) / 2 + (taper - 1) / 2 * z) ** 2)


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from([ELLIPSOID, BOX, FRUSTUM]), taper=st.sampled_from([0.0, 0.6, 1.0]),
       seed=st.integers(0, 10 ** 6))
def test_hits_equal_marching(kind, taper, seed):
    rng = np.random.default_rng(seed)
    origin = rng.normal(size=3)
    origin *= rng.uniform(2.2, 6) / np.linalg.norm(origin)
    direction = rng.uniform(-0.9, 0.9, 3) - origin
    steps = np.linspace(0, 2.5, 20001)
    on_ray = inside(kind, origin[:, None] + steps * direction[:, None], taper)
    tensors = [torch.tensor(value, dtype=torch.float32)[:, None] for value in (origin, direction)]
    t = INTERSECT[kind](*tensors, torch.tensor([taper]))[0].item()
    if on_ray.any(): assert t == pytest.approx(steps[on_ray.argmax()], abs=3e-4)
    else: assert t > FAR / 2


@pytest.mark.parametrize('kind,taper', [(ELLIPSOID, 1.0), (BOX, 1.0), (FRUSTUM, 1.0), (FRUSTUM, 0.0),
                                        (FRUSTUM, 0.6)])
def test_normals_point_out_of_the_solid(kind, taper):
    rng = np.random.default_rng(kind + 10)
    origin = rng.normal(size=(3, 4000))
    origin *= 4 / np.linalg.norm(origin, axis=0)
    direction = rng.uniform(-0.7, 0.7, (3, 4000)) - origin
    half = torch.tensor([[0.5], [1.3], [0.8]]).expand(3, 4000)
    tensors = [torch.tensor(value, dtype=torch.float32) for value in (origin, direction)]
    tapers = torch.full((4000,), taper)
    t = INTERSECT[kind](*tensors, tapers)
    point, normal = tensors[0] + t * tensors[1], solid_normal(kind, tensors[0] + t * tensors[1], half, tapers)
    hit = t < FAR / 2
    assert hit.sum() > 1000
    assert torch.allclose((normal * normal).sum(0)[hit], torch.ones(int(hit.sum())), atol=1e-5)
    outside = (point + 0.01 * normal / half).numpy()[:, hit]
    within = (point - 0.01 * normal / half).numpy()[:, hit]
    assert not inside(kind, outside, taper).any()
    # not at edges, where a step inwards leaves by the other face
    assert inside(kind, within, taper).mean() > 0.97


def test_a_camera_inside_or_behind_sees_nothing():
    direction = torch.tensor([[0.0], [0.1], [1.0]])
    for kind in (ELLIPSOID, BOX, FRUSTUM):
        assert INTERSECT[kind](torch.tensor([[0.0], [0.0], [5.0]]), direction, torch.ones(1)) > FAR / 2
