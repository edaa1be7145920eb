import numpy as np
import pytest
import torch

from track4d_ref.cameras import pixel_centers
from track4d_ref.presets import load_preset
from track4d_ref.simulator import simulate_clip, simulate_clips
from track4d_ref.storage import InputError
from track4d_ref.tokens import train_tokenizer
from track4d_ref.tracks import lift_pixels, visual_track
from track4d_ref.vision import COLORS, FAR_M, dense_scores, dense_targets, load_tower, pixel_flow, pretrain_tower, save_tower
from track4d_ref.vlm import build_vlm

PRESET = load_preset('tiny')


def test_flow_is_the_step_of_the_visual_track():
    clip = simulate_clip(8, PRESET, height=84, width=140, roll_rad=0.2)
    uv_px = pixel_centers(84, 140)[3::9, 2::7].reshape(-1, 2)
    flow_px, depth_m, _ = pixel_flow(clip, 2, uv_px)
    near = depth_m < FAR_M
    _, _, xyz_world = lift_pixels(clip, 0, 2, uv_px[near])
    track_px, track_depth_m = visual_track(clip.view.K, clip.view.w2c, xyz_world)
    front = track_depth_m[3] > 0.05
    assert front.sum() > 50
    assert np.allclose((track_px[3] - track_px[2])[front], flow_px[near][front], atol=1e-2)


def test_a_static_camera_and_static_things_have_no_flow():
    clip = simulate_clip(3, PRESET, camera_program='static', object_programs=('static', 'static'), objects=2)
    targets = dense_targets(clip)
    assert targets.shape == (64, 3 + len(COLORS) + 1)
    assert np.abs(targets[:, :2]).max() < 1e-3 and np.allclose(targets[:, 3:].sum(1), 1, atol=1e-5)


def test_shipped_tower_reads_unseen_clips():
    model = build_vlm(PRESET, train_tokenizer([''], 300))
    scores = dense_scores(model, load_tower(model), simulate_clips(16, 777, PRESET))
    assert scores['flow_r2'] > 0.5 and scores['log_depth_error'] < 0.25 and scores['color_accuracy'] > 0.7


def test_tower_round_trip_and_wrong_size(tmp_path):
    model = build_vlm(PRESET, train_tokenizer([''], 300))
    head = load_tower(model)
    save_tower(model, head, tmp_path / 'tower', {'command': 'a test'})
    other = build_vlm(PRESET, train_tokenizer([''], 300), 5)
    load_tower(other, tmp_path / 'tower')
    for one, two in zip(model.model.visual.state_dict().values(), other.model.visual.state_dict().values()): assert torch.equal(one, two)
    small = build_vlm(load_preset('tiny', ('vision_layers=1',)), train_tokenizer([''], 300))
    with pytest.raises(InputError, match='another size'): load_tower(small)
    with pytest.raises(InputError, match='weights.safetensors'): load_tower(small, tmp_path)


def test_pretraining_lowers_the_loss():
    clips = list(simulate_clips(4, 3, PRESET))
    model = build_vlm(PRESET, train_tokenizer([''], 300))
    frames, targets = np.stack([clip.view.frames for clip in clips]), np.stack([dense_targets(clip) for clip in clips])
    _, losses = pretrain_tower(model, frames, targets, seconds=8, batch=2, progress=False)
    assert len(losses) > 3 and np.mean(losses[-2:]) < np.mean(losses[:2])
