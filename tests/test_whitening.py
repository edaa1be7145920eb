"""The whitened start: unit spread on unseen frames, blind to nothing, and refusals with the fix."""
import numpy as np
import pytest
import torch

from track4d_ref.patches import PatchLayout, video_to_patches
from track4d_ref.presets import load_preset
from track4d_ref.storage import InputError
from track4d_ref.tokens import train_tokenizer
from track4d_ref.vlm import build_vlm
from track4d_ref.whitening import principal_components, sum_and_difference, whiten_patch_embedding

TOKENIZER = train_tokenizer(['a b'] * 3, 290)


def clips(count, seed):
    "Waves that drift: much stays, little changes."
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:28, :56]
    film = [[127 + 60 * np.sin(rows * a + columns * b + 0.3 * t + c)[..., None] * tint for t in range(4)]
            for a, b, c, tint in zip(rng.uniform(0, 1, count), rng.uniform(0, 1, count), rng.uniform(0, 6, count), rng.uniform(.3, 1, (count, 3)))]
    return (np.array(film) + rng.normal(0, 2, (count, 4, 28, 56, 3))).clip(0, 255).astype(np.uint8)


def model(*sizes): return build_vlm(load_preset('tiny', ('text_layers=1', 'text_width=48', 'text_heads=2', 'text_kv_heads=1', *sizes)), TOKENIZER)


def test_sum_and_difference_rebuild_the_patches():
    frames = clips(2, 0)
    stays, changes = sum_and_difference(frames, PatchLayout())
    patches = video_to_patches(frames, PatchLayout()).reshape(-1, 3, 2, 196)
    assert torch.allclose(stays - changes, patches[:, :, 0].flatten(1), atol=1e-6) and torch.allclose(stays + changes, patches[:, :, 1].flatten(1), atol=1e-6)


def test_components_are_orthonormal_sorted_and_deterministic():
    values = torch.randn(300, 7, generator=torch.Generator().manual_seed(1)) * torch.arange(1, 8)
    rows, variances = principal_components(values)
    assert torch.allclose(rows @ rows.T, torch.eye(7), atol=1e-5) and (variances.diff() <= 0).all()
    assert torch.allclose(((values - values.mean(0)) @ rows.T).var(0, correction=0), variances, rtol=1e-3)
    assert torch.equal(principal_components(values.clone())[0], rows)


def test_every_channel_is_about_equally_loud_on_new_clips():
    whitened = model('vision_width=32', 'vision_heads=2')
    whiten_patch_embedding(whitened, clips(40, 1))
    spread = whitened.model.visual.patch_embed(video_to_patches(clips(30, 2), PatchLayout()).flatten(0, 1)).detach().std(0)
    assert 0.2 < float(spread.min()) and float(spread.max()) < 3


def test_still_pairs_silence_the_second_half():
    whitened = model('vision_width=32', 'vision_heads=2')
    whiten_patch_embedding(whitened, clips(40, 1))
    still = clips(5, 3).repeat(2, 1)[:, :4]
    out = whitened.model.visual.patch_embed(video_to_patches(still, PatchLayout()).flatten(0, 1)).detach()
    assert float(out[:, 16:].abs().max()) < 1e-4 < float(out[:, :16].abs().max())


def test_only_the_patch_embedding_changes():
    before, after = model(), model()
    whiten_patch_embedding(after, clips(40, 1))
    assert [name for (name, a), (_, b) in zip(before.named_parameters(), after.named_parameters()) if not torch.equal(a, b)] == ['model.visual.patch_embed.proj.weight']


def test_other_temporal_patches_are_refused():
    with pytest.raises(InputError, match='temporal_patch_size = 1'): sum_and_difference(clips(1, 0), PatchLayout(temporal=1))
