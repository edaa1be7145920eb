"""The geometry encoder's truth, its features and their way into the model."""
import numpy as np
import pytest
import torch

from track4d_ref.cameras import rotation_about
from track4d_ref.geometry_encoder import (build_encoder, camera_targets, geometry_losses, geometry_scores, geometry_set, load_encoder, query_points,
                                          rotation_vector, save_encoder, track_targets)
from track4d_ref.geometry_tokens import GeometryVLM, doubled_places, interleave, set_stage
from track4d_ref.presets import load_preset
from track4d_ref.simulator import simulate_clip, simulate_clips
from track4d_ref.storage import InputError
from track4d_ref.tokens import train_tokenizer
from track4d_ref.vlm import build_vlm

PRESET = load_preset('tiny')


@pytest.fixture(scope='module')
def clips(): return list(simulate_clips(4, 611, PRESET))


def test_rotation_vectors_undo_rotations():
    rng = np.random.default_rng(0)
    for angle in (0.0, 1e-8, 0.01, 1.0, 3.1):
        axis = rng.normal(size=3); axis /= np.linalg.norm(axis)
        assert np.allclose(rotation_vector(rotation_about(axis, angle)), angle * axis, atol=1e-7)


def test_tracks_start_at_their_query_and_agree_when_the_camera_rests(clips):
    for clip in clips:
        told = track_targets(clip)
        for token in range(64):
            frame = 2 * (token // 16)
            for values in (told.visual, told.true_motion, told.path): assert np.abs(values[token, frame]).max() < 1e-4
            assert not told.known[token] or told.visible[token, frame]
    still = simulate_clip(612, PRESET, 0, camera_program='static')
    told = track_targets(still)
    assert np.allclose(told.visual, told.true_motion, atol=1e-4) and np.allclose(camera_targets(still), 0, atol=1e-6)


def test_targets_fit_uneven_pictures():
    clip = simulate_clip(613, PRESET, 2, height=84, width=140, roll_rad=0.3)
    assert query_points(clip).shape == (15, 2) and query_points(clip)[:, 0].max() < 140 and query_points(clip)[:, 1].max() < 84
    assert track_targets(clip).visual.shape == (60, 8, 2)


def test_encoder_is_seeded_saved_and_frozen(tmp_path):
    one, two = build_encoder(PRESET, 3), build_encoder(PRESET, 3)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters()))
    save_encoder(one, tmp_path / 'encoder', {})
    loaded = load_encoder(PRESET, tmp_path / 'encoder')
    assert all(torch.allclose(a, b, atol=2e-3) and not b.requires_grad for a, b in zip(one.parameters(), loaded.parameters()))
    with pytest.raises(InputError, match='another size'): load_encoder(load_preset('tiny', ('text_width=96',)), tmp_path / 'encoder')
    with pytest.raises(InputError, match='weights'): load_encoder(PRESET, tmp_path)


def test_truth_has_no_loss_and_scores_best(clips):
    data = geometry_set(build_vlm(PRESET, train_tokenizer([''], 300)), clips)
    class Oracle:
        frames, shape = 8, (4, 16)
        def __call__(self, tokens): return tokens
        def tell(self, features): return dict(dense=data.dense, visual=data.visual, true_motion=data.true_motion, path=data.path,
                                              visible=20 * data.visible.float() - 10, camera=data.camera)
    assert all(float(loss) < 1e-3 for loss in geometry_losses(Oracle().tell(None), data).values())
    scores = geometry_scores(Oracle(), data)
    assert scores['visual_delta_avg'] > 0.999 and scores['depth_absrel'] == 0 and scores['turn_error_deg'] == 0 and scores['occlusion_accuracy'] == 1


@pytest.mark.parametrize('count', [0, 1, 5])
def test_interleaving_is_two_combs(count):
    visual, geometry = torch.randn(count, 3), torch.randn(count, 3)
    row = interleave(visual, geometry)
    assert torch.equal(row[0::2], visual) and torch.equal(row[1::2], geometry)
    flags = torch.tensor([False] + [True] * count + [False])
    assert len(doubled_places(flags)) == 2 * count + 2
    with pytest.raises(InputError): interleave(visual, torch.randn(count + 1, 3))


def test_closed_model_gives_visual_tokens_untouched_and_stages_train_their_parts(clips):
    base = build_vlm(PRESET, train_tokenizer([''], 300), 1)
    model = GeometryVLM(base, build_encoder(PRESET), build_vlm(PRESET, train_tokenizer([''], 300)))
    visual, features = torch.randn(64, 192), model.geometry([clips[0].view.frames])
    assert model.tokens(visual, features) is visual and features.shape == (64, 192)
    model.open(visual)
    assert model.tokens(visual, features).shape == (128, 192) and torch.equal(model.tokens(visual, features)[::2], visual)
    assert all(name.startswith('projector') for name in set_stage(model, 1))
    second = set_stage(model, 2)
    assert not any('encoder' in name or 'visual.blocks' in name or 'patch_embed' in name for name in second)
    assert any('merger' in name for name in second) and any('language_model' in name for name in second)
    with pytest.raises(InputError, match='stage'): set_stage(model, 0)
