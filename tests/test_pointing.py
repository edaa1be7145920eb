"""Shares and true motions of visual tokens, and the two losses that ask for them."""
from dataclasses import replace

import numpy as np
import pytest
import torch

from track4d_ref.cameras import rotation_about
from track4d_ref.grounding import MOST_OBJECTS
from track4d_ref.measurements import measure
from track4d_ref.patches import PatchLayout
from track4d_ref.pointing import POINT_WIDTH, add_pointer, motion_loss, object_shares, pair_motions, pointing_loss
from track4d_ref.presets import load_preset
from track4d_ref.simulator import simulate_clip
from track4d_ref.tokens import train_tokenizer
from track4d_ref.vlm import build_vlm

PRESET = load_preset('tiny', ('text_layers=3', 'vision_layers=1', 'text_width=48', 'text_heads=2', 'text_kv_heads=1', 'vision_width=32', 'vision_heads=2'))
LAYOUT = PatchLayout(patch=7)


@pytest.fixture(scope='module')
def clip(): return simulate_clip(61, PRESET, 4, height=84, width=140)


def test_shares_follow_the_order_of_tokens_in_uneven_frames(clip):
    shares = object_shares(clip, LAYOUT)
    assert shares.shape == (4 * 6 * 10, MOST_OBJECTS)
    for number, item in enumerate(clip.objects[:MOST_OBJECTS]):
        for token in (0, 7, 61, 125, 239):
            pair, row, column = token // 60, token % 60 // 10, token % 10
            cell = clip.view.instances[2 * pair:2 * pair + 2, 14 * row:14 * row + 14, 14 * column:14 * column + 14]
            assert shares[token, number] == pytest.approx((cell == item.id).mean(), abs=1e-6)
    assert not shares[:, len(clip.objects):].any()


def test_motions_ignore_where_the_world_stands_and_how_large_it_is(clip):
    m = measure(clip)
    motions = pair_motions(m)
    assert motions.shape == (4, MOST_OBJECTS, 4) and np.abs(motions).max() <= 3 and np.abs(motions).max() > 0.1
    shift = np.eye(4); shift[:3, :3], shift[:3, 3] = rotation_about(np.array([0.0, 0.0, 1.0]), 0.7), (2.0, -5.0, 1.0)
    moved = replace(m, w2c=m.w2c @ np.linalg.inv(shift), poses=shift @ m.poses)
    assert np.allclose(pair_motions(moved)[..., :3], motions[..., :3], atol=1e-4)
    def twice(poses): return np.concatenate([poses[..., :3], poses[..., 3:] * np.array([2, 2, 2, 1.0])[:, None]], -1)
    assert np.allclose(pair_motions(replace(m, w2c=twice(m.w2c), poses=twice(m.poses), scale_m=2 * m.scale_m)), motions, atol=1e-5)


def test_motion_of_a_pair_is_that_of_its_two_frames(clip):
    m = measure(clip)
    step = m.w2c[4, :3, :3] @ (m.centers_m[0, 5] - m.centers_m[0, 4]) / m.scale_m[0]
    assert np.allclose(pair_motions(m)[2, 0, :3], np.clip(28 * step, -3, 3), atol=1e-5)


def pointer(width=48):
    readout = torch.nn.ModuleDict()
    add_pointer(readout, build_vlm(PRESET, train_tokenizer([''], 300)), 3)
    return readout


def test_pointing_sums_over_mentions_and_passes_by_what_is_never_seen():
    readout, generator = pointer(), torch.Generator().manual_seed(0)
    hidden, ids = torch.randn(2, 20, 48, generator=generator, requires_grad=True), torch.full((2, 20), 9)
    ids[:, 3:11] = 7
    shares = torch.zeros(2, 8, MOST_OBJECTS); shares[:, 2:4, 0] = 0.8; shares[:, 5, 1] = 0.3
    def loss(places): return pointing_loss(readout['pointer'], hidden, ids, 7, places, shares)
    both = loss([[(15, 0), (17, 1)], [(12, 1)]])
    parts = loss([[(15, 0)], []]) + loss([[(17, 1)], []]) + loss([[], [(12, 1)]])
    assert torch.allclose(both, parts) and both > 0
    assert loss([[(15, 5)], []]) == 0 == loss([[], []])
    both.backward()
    assert hidden.grad[0, 3:11].abs().sum() > 0 and hidden.grad[0, 15].abs().sum() > 0 and hidden.grad[0, 12].abs().sum() == 0


def test_perfect_pointing_costs_the_entropy_of_the_shares():
    layer = torch.nn.Linear(POINT_WIDTH, POINT_WIDTH, bias=False)
    torch.nn.init.eye_(layer.weight)
    hidden = torch.zeros(1, 5, POINT_WIDTH); hidden[0, :4] = 10 * torch.eye(POINT_WIDTH)[:4]; hidden[0, 4, :2] = 10
    shares = torch.zeros(1, 4, MOST_OBJECTS); shares[0, :2, 0] = 0.5
    ids = torch.tensor([[7, 7, 7, 7, 1]])
    assert 0.69 < pointing_loss(layer, hidden, ids, 7, [[(4, 0)]], shares) < 0.75
    assert pointing_loss(layer, hidden, ids, 7, [[(4, 1)]], shares) == 0


def test_motion_of_what_holds_nothing_is_zero_and_things_count_most():
    reader = torch.nn.Linear(48, 4)
    torch.nn.init.zeros_(reader.weight); torch.nn.init.zeros_(reader.bias)
    shares, motions = torch.zeros(1, 8, MOST_OBJECTS), torch.zeros(1, 2, MOST_OBJECTS, 4)
    seen = torch.randn(8, 48)
    assert motion_loss(reader, seen, shares, motions) == 0
    shares[0, 5, 2] = 0.4; motions[0, 1, 2] = torch.tensor([1.0, 0, 0, -1.0])
    wrong = (2 * (1 - 0.15)) / 4
    assert motion_loss(reader, seen, shares, motions).item() == pytest.approx(0.85 * wrong / (0.85 + 7 * 0.05), rel=1e-5)
    motions[0, 0, 2] = 3.0                                                    # the object is not under any token of the first pair
    assert motion_loss(reader, seen, shares, motions).item() == pytest.approx(0.85 * wrong / (0.85 + 7 * 0.05), rel=1e-5)
