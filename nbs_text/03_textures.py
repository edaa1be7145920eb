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
import matplotlib.pyplot as plt

# %% [markdown]
# ## Names and sizes
#
# Each pattern is one grey square that repeats without a seam. A surface later mixes two colours by its grey value, so twelve
# squares give hundreds of looks. Five levels of blur stand ready for surfaces that are far away.

# %%
#| export
PATTERNS = ('plain', 'checker', 'stripes', 'dots', 'wood', 'tiles', 'bricks', 'speckle', 'clouds', 'windows',
            'zigzag', 'terrazzo')
TEXELS, LEVELS = 128, 5      # side of a pattern; each level is blurred twice as wide as the one before

# %%
assert TEXELS & (TEXELS - 1) == 0            # a power of two: wrapping around is then a bit mask


# %% [markdown]
# ## Noise without a seam
#
# Wood, clouds and stone need randomness that is smooth and periodic. Value noise interpolates a coarse random grid; indexing
# the grid modulo its size makes the right edge continue at the left. More cells give finer bumps.

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
figure, axes = plt.subplots(1, 3, figsize=(7, 2.4), dpi=90)
noises = [smooth_noise(np.random.default_rng(1), cells) for cells in (4, 8, 16)]
for axis, noise, cells in zip(axes, noises, (4, 8, 16)):
    axis.imshow(np.tile(noise, (1, 2)), cmap='gray')
    axis.set(title=f'{cells} cells, drawn twice', xticks=[], yticks=[])

# %% [markdown]
# No vertical line shows in the middle, where the two copies meet. The step across that seam is as small as any other:

# %%
seam = np.abs(noises[0][:, 0] - noises[0][:, -1]).max()
inner = np.abs(np.diff(noises[0], axis=1)).max()
assert seam <= inner and 0 <= noises[0].min() and noises[0].max() <= 1


# %% [markdown]
# ## Twelve patterns
#
# Six are drawn with a ruler and six imitate a material. The grey values say where the first or the second colour goes:
# mortar and grout are 0, so they take the first. A little fine noise is added everywhere; perfectly even areas would give
# stereo matching and optical flow nothing to hold on to.

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
    cloud = sum(weight * smooth_noise(rng, cells) for cells,
                weight in ((4, 0.5), (8, 0.25), (16, 0.15), (32, 0.1)))
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
    """All patterns at all levels, flat float32 in [0, 1]: index ((pattern · LEVELS + level) · TEXELS + v)
    · TEXELS + u."""
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
bank = pattern_bank().reshape(len(PATTERNS), LEVELS, TEXELS, TEXELS)
figure, axes = plt.subplots(2, 6, figsize=(8.4, 3.3), dpi=56)
for axis, name, levels in zip(axes.flat, PATTERNS, bank):
    axis.imshow(levels[0, :96, :96], cmap='gray', vmin=0, vmax=1)
    axis.set(title=name, xticks=[], yticks=[])
figure.tight_layout()

# %%
assert bank.min() >= 0 and bank.max() <= 1 and (bank[1:, 0].std((1, 2)) > 0.05).all()     # all but `plain` show

# %% [markdown]
# ## Levels and looking up
#
# When one pixel covers many texels, picking a single one makes far floors sparkle as the camera moves. The remedy is old
# (mip-mapping, Williams 1983): average first, look up later. All levels keep the full size here, because that keeps the
# index arithmetic to one line; 4 MB is a fair price. Each level averages four shifted copies of the one before.

# %%
figure, axes = plt.subplots(1, LEVELS, figsize=(9, 2.1), dpi=90)
for level, axis in enumerate(axes):
    axis.imshow(bank[PATTERNS.index('bricks'), level], cmap='gray', vmin=0, vmax=1)
    axis.set(title=f'level {level}', xticks=[], yticks=[])
means = bank.mean((2, 3))
assert torch.allclose(means, means[:, :1].expand_as(means), atol=1e-4)         # blurring keeps the mean
assert (bank.std((2, 3))[:, 1:] <= bank.std((2, 3))[:, :-1] + 1e-6).all()     # and only ever lowers contrast


# %% [markdown]
# The level follows from the squared size of a pixel on the surface, in texels, by four comparisons instead of a logarithm.

# %%
#| export
def sample_pattern(bank: torch.Tensor, start: torch.Tensor, u_texel: torch.Tensor, v_texel: torch.Tensor,
                   footprint2: torch.Tensor) -> torch.Tensor:
    """Pattern values (N,): `start` (N,) int32 first texel of each pattern, `footprint2` a pixel's squared
    size in texels."""
    level = (footprint2 > 2).int() + (footprint2 > 8) + (footprint2 > 32) + (footprint2 > 128)
    row, column = v_texel.floor().int() & (TEXELS - 1), u_texel.floor().int() & (TEXELS - 1)
    return bank.index_select(0, start + (level * TEXELS + row) * TEXELS + column)


# %%
start = torch.full((3,), PATTERNS.index('checker') * LEVELS * TEXELS ** 2, dtype=torch.int32)
u, v = torch.tensor([5.0, 5.0 + TEXELS, 5.0 - TEXELS]), torch.tensor([40.0, 40.0, 40.0])
values = sample_pattern(pattern_bank(), start, u, v, torch.ones(3))
assert (values == values[0]).all()                                               # periodic in both directions
assert values[0] == bank[PATTERNS.index('checker'), 0, 40, 5]

# %% [markdown]
# ## What we proved
#
# * patterns repeat without a seam, so any surface can be covered
# * blurred levels keep the mean and lower the contrast
# * looking up wraps around and agrees with plain indexing
#
# ## Try it
#
# 1. Add a pattern of hexagons. Which other cells must change?
# 2. Take the logarithm instead of four comparisons in `sample_pattern`. Is it faster? Are the bytes still the same on a GPU?
#
# <details><summary>Solutions</summary>
#
# 1. The function that turns a point into a cell number, the table that lists pattern names, and the draw that picks
#    one. Everything behind it works on cell numbers and colours. Add the name at the *end* of the table, or all old
#    seeds change their look.
# 2. Time both on the same points. The bytes are the argument against it: IEEE fixes + − × ÷ and √ to the last bit,
#    but not `log`; two libraries, or a CPU and a GPU, may round it differently, and then equal seeds no longer mean
#    equal clips.
#
# </details>
