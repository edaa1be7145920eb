# %% [markdown]
# # Textures
# > Twelve repeating patterns with their blurred levels, so that floors and walls give motion something to show against.

# %%
#| default_exp textures

# %% [markdown]
# * **What** a bank of tileable grey patterns, looked up at any surface point
# * **Why** a plain floor hides camera motion: optical flow, stereo and the VLM all need texture
# * **Paper** none; all patterns are **[ours]**
# * **Needs** numpy, torch
# * **Time** 10 seconds
# * **Before this** nothing

# %%
#| export
import functools

import numpy as np
import torch

# %%
#| export
PATTERNS = ('plain', 'checker', 'stripes', 'dots', 'wood', 'tiles', 'bricks', 'speckle', 'clouds', 'windows',
            'zigzag', 'terrazzo')
TEXELS, LEVELS = 128, 5      # side of a pattern; each level is blurred twice as wide as the one before


# %%
#| export
def smooth_noise(rng: np.random.Generator, cells: int) -> np.ndarray:
    "Periodic value noise (TEXELS, TEXELS) in [0, 1] with `cells` bumps along a side."
    grid = rng.random((cells, cells))
    place = np.arange(TEXELS) * cells / TEXELS
    low, part = place.astype(int), place % 1
    high, part = (low + 1) % cells, part * part * (3 - 2 * part)
    rows = grid[low] * (1 - part)[:, None] + grid[high] * part[:, None]
    return rows[:, low] * (1 - part) + rows[:, high] * part


# %%
#| export
def _regular(u: np.ndarray, v: np.ndarray) -> dict[str, np.ndarray]:
    "The patterns drawn with a ruler, from texture coordinates in [0, 1)."
    u4, v4 = u * 4 % 1, v * 4 % 1
    return {'plain': 0.5 + 0 * u,
            'checker': (np.floor(u * 4) + np.floor(v * 4)) % 2,
            'stripes': np.floor(v * 8) % 2,
            'dots': (u4 - 0.5) ** 2 + (v4 - 0.5) ** 2 < 0.09,
            'windows': (u4 > 0.25) & (u4 < 0.75) & (v4 > 0.3) & (v4 < 0.8),
            'zigzag': (v * 8 + np.abs(u * 8 % 2 - 1)) % 2 < 1}

def _natural(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    "The patterns that look like a material, from texture coordinates and noise."
    fine = rng.random(u.shape)
    cloud = sum(weight * smooth_noise(rng, cells) for cells, weight in ((4, 0.5), (8, 0.25), (16, 0.15), (32, 0.1)))
    plank = (v * 4).astype(int)
    joint = ((v * 4) % 1 < 0.06) | ((u + plank * 0.37) % 1 < 0.012)
    rings = 0.5 + 0.5 * np.sin(2 * np.pi * (24 * v + 2 * smooth_noise(rng, 8)))
    wood = 0.55 * np.array([0.2, 0.7, 0.4, 0.9])[plank] + 0.25 * rings + 0.2 * fine
    course = np.floor(v * 8) % 2
    mortar = ((u * 4 + course / 2) % 1 < 0.06) | ((v * 8) % 1 < 0.12)
    grout = (u * 4 % 1 < 0.04) | (v * 4 % 1 < 0.04)
    chips = np.median([smooth_noise(rng, 24) for _ in range(3)], axis=0)
    return {'wood': np.where(joint, 0, wood), 'bricks': np.where(mortar, 0, 0.7 + 0.3 * cloud),
            'tiles': np.where(grout, 0, 0.75 + 0.25 * smooth_noise(rng, 16)), 'speckle': fine,
            'clouds': (cloud - 0.25) * 2, 'terrazzo': chips > 0.55}


# %%
#| export
@functools.lru_cache
def pattern_bank(device: str = 'cpu') -> torch.Tensor:
    "All patterns at all levels, flat float32 in [0, 1]: index ((pattern · LEVELS + level) · TEXELS + v) · TEXELS + u."
    rng = np.random.default_rng(0)
    v, u = np.meshgrid(*[(np.arange(TEXELS) + 0.5) / TEXELS] * 2, indexing='ij')
    drawn = _regular(u, v) | _natural(u, v, rng)
    sharp = np.clip(np.stack([drawn[name].astype(np.float64) for name in PATTERNS]), 0, 1)
    levels = [sharp * 0.9 + 0.1 * rng.random((TEXELS, TEXELS))]
    for level in range(1, LEVELS):
        step, last = 2 ** (level - 1), levels[-1]
        levels.append(sum(np.roll(last, (i * step, j * step), (1, 2)) for i in (0, 1) for j in (0, 1)) / 4)
    return torch.from_numpy(np.stack(levels, 1).astype(np.float32).ravel()).to(device)


# %%
#| export
def sample_pattern(bank: torch.Tensor, start: torch.Tensor, u_texel: torch.Tensor, v_texel: torch.Tensor,
                   footprint2: torch.Tensor) -> torch.Tensor:
    "Pattern values (N,): `start` (N,) int32 first texel of each pattern, `footprint2` a pixel's squared size in texels."
    level = (footprint2 > 2).int() + (footprint2 > 8) + (footprint2 > 32) + (footprint2 > 128)
    row, column = v_texel.floor().int() & (TEXELS - 1), u_texel.floor().int() & (TEXELS - 1)
    return bank.index_select(0, start + (level * TEXELS + row) * TEXELS + column)
