"""Rays and times of visual tokens, and the encoder that adds them."""
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from track4d_ref.cameras import camera_center, intrinsics, invert_pose, look_at, pluecker, pose_from, project, rotation_about
from track4d_ref.patches import PatchLayout
from track4d_ref.rtge import (RayTimeEncoder, RtgeConfig, fourier_features, join_tags, point_tag, scene_scale_m, token_centers_px,
                              view_tags)
from track4d_ref.storage import InputError

LAYOUT = PatchLayout(patch=14, merge=2, temporal=2)
GRID = LAYOUT.grid(6, 56, 112)
K = intrinsics(130.0, 96.0, 51.0, 30.0)


def poses(frames: int = 6, roll: float = 0.3) -> np.ndarray:
    return np.stack([look_at((3 * np.sin(a), -5 * np.cos(a), 2 + a), (0.1, 0, 0.4), (0, 0, 1), roll) for a in np.linspace(0, 1, frames)])


def tags_of(w2c, times_s=np.arange(6) / 7.0, scale_m=2.5, **more):
    return view_tags(K, w2c, times_s, GRID, LAYOUT, scale_m, **more)


def test_tags_equal_a_loop():
    w2c, times_s = poses(), np.array([0, 0.1, 0.25, 0.3, 0.6, 0.7])
    tags, index = tags_of(w2c, times_s), 0
    for pair in range(3):
        for i in range(2):
            for j in range(4):
                u = np.array([(j + .5) * 28, (i + .5) * 28, 1])
                d = w2c[2 * pair, :3, :3].T @ np.linalg.inv(K) @ u
                d /= np.linalg.norm(d)
                o = camera_center(w2c[2 * pair])
                now = times_s[2 * pair:2 * pair + 2].mean()
                before = times_s[2 * pair - 2:2 * pair].mean() if pair else now
                assert np.allclose(tags.line[index], np.concatenate([np.cross(o, d) / 2.5, d]), atol=1e-12)
                assert np.allclose([tags.time[index], tags.step_s[index]], [now / 0.7, now - before])
                index += 1
    assert index == len(tags) == 24


@settings(max_examples=30, deadline=None)
@given(st.floats(-3, 3), st.floats(-2, 2), st.floats(-40, 40))
def test_line_does_not_depend_on_the_point_of_the_ray(angle, roll, slide):
    tags = tags_of(np.stack([look_at((4 * np.cos(angle), 4 * np.sin(angle), 1.5), (0, 0, 0), (0, 0, 1), roll)] * 6))
    moved = pluecker(tags.origin_m + slide * tags.direction, tags.direction)
    assert torch.allclose(moved[:, :3] / 2.5, tags.line[:, :3], atol=1e-9)
    assert (tags.line[:, :3] * tags.line[:, 3:]).sum(-1).abs().max() < 1e-9


def test_world_rotation_turns_directions_and_moments():
    rotation = rotation_about((1, -2, 0.5), 1.1)
    turned = tags_of(poses() @ invert_pose(pose_from(rotation, np.zeros(3))))
    here = tags_of(poses())
    assert torch.allclose(turned.line[:, 3:], here.line[:, 3:] @ torch.tensor(rotation).T)
    assert torch.allclose(turned.line[:, :3], here.line[:, :3] @ torch.tensor(rotation).T)


def test_scale_and_origin():
    centers = torch.tensor(camera_center(poses()))
    scale = scene_scale_m(centers)
    assert tags_of(poses(), scale_m=scale).line[:, :3].norm(dim=-1).max() <= 1
    assert scene_scale_m(centers * 0) == 1.0
    assert scene_scale_m(centers * 10) == pytest.approx(10 * scale)


def test_twice_the_frame_rate_halves_the_step():
    slow, fast = tags_of(poses(), np.arange(6) / 7.0), tags_of(poses(), np.arange(6) / 14.0)
    assert torch.equal(fast.step_s, slow.step_s / 2) and torch.allclose(fast.time, slow.time)
    assert slow.step_s[:8].abs().max() == 0 and slow.step_s[8] > 0


def test_a_part_of_a_clip_keeps_the_clips_clock():
    times_s = np.arange(12) / 7.0
    whole = view_tags(K, poses(12), times_s, LAYOUT.grid(12, 56, 112), LAYOUT, 2.5)
    part = view_tags(K, poses(12)[6:], times_s[6:], GRID, LAYOUT, 2.5, clock_s=(0.0, times_s[-1]))
    assert torch.allclose(whole.time[24:], part.time) and torch.equal(whole.line[24:], part.line)


def test_wrong_counts_name_the_view():
    with pytest.raises(InputError, match='view 3: 5 poses'): view_tags(K, poses(5), np.arange(6.), GRID, LAYOUT, 1.0, view=3)
    with pytest.raises(InputError, match='concat'): RayTimeEncoder(RtgeConfig(8, mode='concat'))


def test_join_select_and_move():
    both = join_tags([tags_of(poses()), tags_of(poses(), view=1)])
    assert len(both) == 48 and both.select(both.view == 1).view.unique().tolist() == [1]
    small = both.to(torch.float32)
    assert small.line.dtype == torch.float32 and small.view.dtype == torch.int64


def test_point_tag_equals_the_token_under_it():
    tags, centers = tags_of(poses()), token_centers_px(GRID, LAYOUT)
    pointed = point_tag(K, poses()[2], centers[1, 5], 2.5 / 7, (0, 5 / 7), 2.5)
    assert torch.allclose(pointed.line[0], tags.line[13]) and torch.allclose(pointed.time[0], tags.time[13])
    far = tags.origin_m[13:14] + 6 * tags.direction[13:14]
    assert torch.allclose(project(torch.tensor(K), torch.tensor(poses()[2]), far)[0][0], centers[1, 5])


def test_fourier_order_and_gradient():
    x = torch.tensor([[0.25, -0.5]], dtype=torch.float64)
    found = fourier_features(x, 2)[0]
    wanted = [v for value in (0.25, -0.5) for v in (value, np.sin(np.pi * value), np.cos(np.pi * value),
                                                    np.sin(2 * np.pi * value), np.cos(2 * np.pi * value))]
    assert torch.allclose(found, torch.tensor(wanted, dtype=torch.float64))
    assert torch.autograd.gradcheck(lambda v: fourier_features(v, 3), torch.rand(3, 2, dtype=torch.float64, requires_grad=True))


def test_add_is_a_bitwise_no_op_and_film_is_a_layer_norm():
    tags, tokens = tags_of(poses()), torch.randn(24, 16)
    add, film = RayTimeEncoder(RtgeConfig(16)), RayTimeEncoder(RtgeConfig(16, mode='film'))
    assert torch.equal(add(tokens, tags), tokens)
    assert torch.allclose(film(tokens, tags), torch.nn.functional.layer_norm(tokens, (16,)), atol=1e-6)
    with torch.no_grad(): add.strength.fill_(0.3)
    assert not torch.equal(add(tokens, tags), tokens)


@pytest.mark.parametrize('options, same', [({}, False), ({'use_ray': False}, True), ({'use_time': False}, False)])
def test_switches(options, same):
    tags, encoder = tags_of(poses()), RayTimeEncoder(RtgeConfig(16, **options))
    code = encoder.encode(tags)
    assert torch.allclose(code[0], code[7], atol=1e-6) == same                    # one frame, two rays
    slower = tags_of(poses(), np.arange(6) / 2.0)
    assert torch.allclose(code, encoder.encode(slower)) == (not options.get('use_time', True))


def test_gradients_reach_every_parameter():
    torch.manual_seed(0)
    encoder, tags = RayTimeEncoder(RtgeConfig(6, hidden=5, ray_levels=2, time_levels=1)).double(), tags_of(poses()).select(slice(0, 4))
    with torch.no_grad(): encoder.strength.fill_(0.5)
    tokens = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: encoder(x, tags), tokens)
    encoder(tokens, tags).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in encoder.parameters())
