# %% [markdown]
# # Four bits
# > NF4 by hand: sixteen levels, a scale for every 64 weights, and scales that are themselves rounded; equal to bitsandbytes.

# %%
#| default_exp nf4

# %% [markdown]
# #| export
# A matrix becomes codes (two to a byte), one 8-bit scale per block of 64 weights, one float32 per 256 of these scales, and one
# offset: 4.127 bits per weight. Nothing is learned and nothing is random.

# %% [markdown]
# * **What** how QLoRA keeps a frozen matrix in an eighth of its size, written by hand and compared bit by bit
# * **Why** a 7-billion model at two bytes per weight does not fit on a 12 GB card; at half a byte it does
# * **Paper** Dettmers et al., *QLoRA*, §3 (NF4, double quantisation); none of our three papers quantises, the 24 GB door is **[ours]**
# * **Needs** torch; bitsandbytes to compare
# * **Time** 15 seconds
# * **Before this** [`21_lora`](21_lora.ipynb)

# %%
#| export
from dataclasses import dataclass

import torch

# %%
import bitsandbytes
import bitsandbytes.functional
import matplotlib.pyplot as plt
import numpy as np

# %% [markdown]
# ## Sixteen levels
#
# Trained weights look like draws from a normal distribution. If each of the 16 codes is to be used equally often, levels must
# lie at quantiles, dense in the middle and sparse outside. Zero must be a level (padding and pruned weights stay exactly
# zero), and so must −1 and 1. QLoRA's recipe: eight quantiles of the negative half, nine of the positive, one of them shared;
# its appendix prints the result. We write the printed values down and derive them to see that they are what they say.

# %%
#| export
LEVELS = (-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
          -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
          0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0)           # QLoRA, appendix E
BLOCK = 64            # weights that share a scale
OUTER = 256           # scales that share a scale of their own

# %%
outermost = 0.5 * ((1 - 1 / 30) + (1 - 1 / 32))                   # the mean of the two ways to cut the last quantile
positive = torch.special.ndtri(torch.linspace(outermost, 0.5, 9, dtype=torch.float64))
negative = -torch.special.ndtri(torch.linspace(outermost, 0.5, 8, dtype=torch.float64))
derived = torch.cat([negative[:-1], positive]).sort().values / positive.max()
print('largest difference between derived and printed levels', f'{float((derived - torch.tensor(LEVELS, dtype=torch.float64)).abs().max()):.0e}')
assert torch.allclose(derived, torch.tensor(LEVELS, dtype=torch.float64), atol=1e-6)
assert torch.equal(torch.tensor(LEVELS), bitsandbytes.functional.get_4bit_type('nf4', device='cpu'))

# %%
x = torch.linspace(-1.05, 1.05, 400)
fig, ax = plt.subplots(figsize=(6.5, 2.3), dpi=90)
ax.fill_between(x, torch.exp(-(x * positive.max().float()) ** 2 / 2), color='#e0e0e0', label='weights of a trained matrix')
ax.vlines(LEVELS, 0, 1, color='#2a6f97', lw=1.5, label='NF4'); ax.vlines(np.linspace(-1, 1, 16), 0, -.3, color='#c1440e', lw=1, label='evenly spaced')
ax.set_xlabel('weight / largest of its block'); ax.set_yticks([]); ax.legend(fontsize=7, loc='upper right'); plt.show()
assert np.diff(LEVELS).argmin() in (6, 7)


# %% [markdown]
# ## Blocks, naively
#
# Sixty-four neighbours share one scale, the largest absolute value among them. Each weight, divided by it, becomes the nearest level.
# First with loops, as the definition says it:

# %%
def quantize_v1(weight):
    codes, scales = [], []
    for block in weight.flatten().split(BLOCK):
        scale = float(block.abs().max())
        scales.append(scale)
        for value in block: codes.append(int(np.argmin([abs(float(value) / scale - level) for level in LEVELS])))
    return codes, scales

weight = torch.randn(20, 96, generator=torch.Generator().manual_seed(0)) * 0.02
codes_v1, scales_v1 = quantize_v1(weight)
restored = torch.tensor([LEVELS[c] for c in codes_v1]).view(-1, BLOCK) * torch.tensor(scales_v1)[:, None]
print('relative error', round(float((restored.view(20, 96) - weight).std() / weight.std()), 3))
assert 0.05 < float((restored.view(20, 96) - weight).std() / weight.std()) < 0.13

# %% [markdown]
# Are the sixteen codes used equally often? Almost: the outermost are rarer, because a block of 64 contains its largest weight exactly once.

# %%
big = torch.randn(512, 512, generator=torch.Generator().manual_seed(1))
fractions = (big.view(-1, BLOCK) / big.view(-1, BLOCK).abs().amax(1, keepdim=True)).flatten()
middle = (torch.tensor(LEVELS)[1:] + torch.tensor(LEVELS)[:-1]) / 2
used = torch.bincount(torch.bucketize(fractions, middle), minlength=16) / fractions.numel()
even = torch.bincount(torch.bucketize(fractions, torch.linspace(-1, 1, 16)[:-1] + 1 / 15), minlength=16) / fractions.numel()
fig, ax = plt.subplots(figsize=(6, 2), dpi=90)
ax.bar(np.arange(16) - .2, used, .4, label='NF4', color='#2a6f97'); ax.bar(np.arange(16) + .2, even, .4, label='evenly spaced', color='#c1440e')
ax.set(xlabel='code', ylabel='share of the weights'); ax.legend(fontsize=8); plt.show()
entropy = lambda p: float(-(p[p > 0] * p[p > 0].log2()).sum())
print(f'information in a code: NF4 {entropy(used):.2f} bits, evenly spaced {entropy(even):.2f} of 4')
assert entropy(used) > entropy(even)


# %% [markdown]
# ## Scales that are rounded too
#
# One float32 per 64 weights is half a bit per weight, an eighth of the whole. *Double quantisation* rounds the scales: subtract their
# mean, divide by the largest of 256 neighbours, and take the nearest of 256 values of an 8-bit format whose steps grow with the
# value: seven powers of ten, each divided more finely the larger it is. All scales are positive and similar, so this costs little.

# %%
#| export
def eight_bit_levels() -> torch.Tensor:
    "The 256 sorted values of the 8-bit dynamic format: seven decades with 1, 2, 4 … 64 steps each, both signs, 0 and 1."
    found = [torch.tensor([0.0, 1.0])]
    for decade in range(7):
        edges = torch.linspace(0.1, 1, 2 ** decade + 1, dtype=torch.float32)
        centres = 10.0 ** (decade - 6) * ((edges[:-1] + edges[1:]) / 2.0)
        found += [centres, -centres]
    return torch.cat(found).sort().values


# %%
levels = eight_bit_levels()
theirs = bitsandbytes.functional.create_dynamic_map()
fig, ax = plt.subplots(figsize=(6, 1.9), dpi=90)
ax.plot(levels, '.', ms=3, color='#2a6f97'); ax.set(xlabel='code', ylabel='value', yscale='symlog'); ax.set_yscale('symlog', linthresh=1e-3); plt.show()
assert len(levels) == 256 and torch.allclose(levels, theirs, atol=1e-8)


# %% [markdown]
# ## The whole of it
#
# Now without loops. `bucketize` finds the nearest level by the midpoints between levels; codes are packed two to a byte.

# %%
#| export
@dataclass(frozen=True)
class FourBit:
    "A matrix in NF4: codes two to a byte, 8-bit codes of the block scales, their scales (float32), and the mean scale."
    codes: torch.Tensor          # (ceil(n / 2),) uint8
    scale_codes: torch.Tensor    # (ceil(n / 64),) uint8
    outer: torch.Tensor          # (ceil(n / 64 / 256),) float32
    mean: torch.Tensor           # ()
    shape: torch.Size
    dtype: torch.dtype

    @property
    def bytes(self) -> int: return nf4_bytes(self.shape.numel())

def nf4_bytes(count: int) -> int:
    "Bytes of `count` weights in NF4 with double quantisation: codes, scale codes, outer scales, mean."
    blocks = -(-count // BLOCK)
    return -(-count // 2) + blocks + 4 * -(-blocks // OUTER) + 4

def _nearest(values: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    return torch.bucketize(values, (levels[1:] + levels[:-1]) / 2)

def _blocks(flat: torch.Tensor, size: int) -> torch.Tensor:
    return torch.nn.functional.pad(flat, (0, -len(flat) % size)).view(-1, size)


# %%
#| export
def quantize_nf4(weight: torch.Tensor) -> FourBit:
    "NF4 of a tensor of any shape, blocks of 64 along its flattened order, scales in eight bits."
    flat = weight.detach().flatten().float()
    blocks = _blocks(flat, BLOCK)
    scales = blocks.abs().amax(1)                                                      # (blocks,)
    codes = _nearest(blocks / scales.clamp(min=1e-38)[:, None], torch.tensor(LEVELS)).flatten()
    pairs = codes[:2 * -(-len(flat) // 2)].view(-1, 2).to(torch.uint8)                  # an odd one is paired with a zero
    mean = scales.mean()
    centred = _blocks(scales - mean, OUTER)
    outer = centred.abs().amax(1)
    scale_codes = _nearest(centred / outer.clamp(min=1e-38)[:, None], eight_bit_levels()).flatten()[:len(scales)]
    return FourBit(pairs[:, 0] << 4 | pairs[:, 1], scale_codes.to(torch.uint8), outer, mean, weight.shape, weight.dtype)

def dequantize_nf4(packed: FourBit) -> torch.Tensor:
    "The tensor that the codes stand for."
    codes = torch.stack([packed.codes >> 4, packed.codes & 15], 1).flatten()[:packed.shape.numel()].long()
    centred = _blocks(eight_bit_levels()[packed.scale_codes.long()], OUTER) * packed.outer[:, None]
    scales = centred.flatten()[:len(packed.scale_codes)] + packed.mean
    values = _blocks(torch.tensor(LEVELS)[codes], BLOCK) * scales[:, None]
    return values.flatten()[:len(codes)].view(packed.shape).to(packed.dtype)


# %% [markdown]
# Against the loops first; they round no scales, so only the codes can be compared:

# %%
packed = quantize_nf4(weight)
codes = torch.stack([packed.codes >> 4, packed.codes & 15], 1).flatten()
assert codes.tolist() == codes_v1
assert torch.equal(torch.stack([c for c in quantize_nf4(weight.flatten()).codes]), packed.codes)
print(f'{packed.bytes:,} bytes for {weight.numel():,} weights: {8 * packed.bytes / weight.numel():.3f} bits each')
assert packed.bytes == sum(t.numel() * t.element_size() for t in (packed.codes, packed.scale_codes, packed.outer, packed.mean))


# %% [markdown]
# Then against bitsandbytes, every part: codes, scale codes, outer scales, mean. Sizes include some that divide evenly by nothing,
# and one matrix of the real 3B's feed-forward layer. The codes of the weights are equal to the last one. A scale code may differ by one
# where the scale lies on the border of two codes to within a few parts in 100,000 (its kernel computes the border less exactly); we count
# these, and check that each is such a case.

# %%
def theirs_of(weight):
    return bitsandbytes.functional.quantize_4bit(weight, quant_type='nf4', compress_statistics=True, blocksize=64)

def border_distance(ours, weight):
    scales = _blocks(weight.flatten(), BLOCK).abs().amax(1)
    centred = (scales - ours.mean) / ours.outer.repeat_interleave(OUTER)[:len(scales)]
    levels = eight_bit_levels()
    return (centred[:, None] - (levels[1:] + levels[:-1]) / 2).abs().amin(1)

for shape in ((192, 512), (37, 64), (13, 7), (2048, 1100)):
    weight = torch.randn(*shape, generator=torch.Generator().manual_seed(3)) * 0.02
    ours, (codes, state) = quantize_nf4(weight), theirs_of(weight)
    differ = ours.scale_codes != state.absmax
    print(f'{str(shape):13s} all codes equal: {torch.equal(ours.codes, codes.flatten())}, scale codes that differ: {int(differ.sum())} of {len(differ)}')
    assert torch.equal(ours.codes, codes.flatten()) and (border_distance(ours, weight)[differ] < 5e-5).all()
    assert torch.allclose(ours.outer, state.state2.absmax) and torch.allclose(ours.mean, state.offset)

# %% [markdown]
# The way back leaves no room for borders: from the same codes, our weights are bitsandbytes' weights, bit by bit.

# %%
from dataclasses import replace

for shape in ((192, 512), (13, 7), (2048, 1100)):
    weight = torch.randn(*shape, generator=torch.Generator().manual_seed(4)) * 0.02
    codes, state = theirs_of(weight)
    same = replace(quantize_nf4(weight), codes=codes.flatten(), scale_codes=state.absmax, outer=state.state2.absmax, mean=state.offset)
    gap = (dequantize_nf4(same) - bitsandbytes.functional.dequantize_4bit(codes, state)).abs().max()
    assert float(gap) <= 1e-9, gap

# %% [markdown]
# ## What it costs
#
# Three things are worth a look: bits per weight for matrices of different sizes, the error against other ways to spend four
# bits, and a matrix with one weight that is far too large. Such *outliers* stretch the scale of their block; that is what the
# small blocks are for.

# %%
sizes = [10 ** k for k in range(2, 9)]
fig, axes = plt.subplots(1, 2, figsize=(7.5, 2.3), dpi=90)
axes[0].semilogx(sizes, [8 * nf4_bytes(n) / n for n in sizes], 'o-', color='#2a6f97'); axes[0].set(xlabel='weights', ylabel='bits per weight')
def error(block, outlier=0.0):
    values = torch.randn(64, 4096, generator=torch.Generator().manual_seed(2)); values[:, 0] += outlier
    parts = values.view(-1, block); scale = parts.abs().amax(1, keepdim=True)
    return float((torch.tensor(LEVELS)[_nearest(parts / scale, torch.tensor(LEVELS))] * scale - parts).std())
for outlier, colour in ((0, '#2a6f97'), (20, '#c1440e')):
    axes[1].semilogx((16, 64, 256, 1024, 4096), [error(b, outlier) for b in (16, 64, 256, 1024, 4096)], 'o-', color=colour, label=f'outlier + {outlier}')
axes[1].set(xlabel='weights per block', ylabel='error / spread'); axes[1].legend(fontsize=8); plt.tight_layout(); plt.show()
assert abs(8 * nf4_bytes(10 ** 8) / 10 ** 8 - 4.127) < 1e-3
assert error(64, 20) < 0.5 * error(4096, 20)

# %% [markdown]
# The same on the language model of the real size: all matrices of 36 layers. Whether a card is large enough
# is decided by such lines, and by what the step itself needs.

# %%
per_layer = 2 * 2048 * 2048 + 2 * 2048 * 256 + 3 * 2048 * 11008               # q, o; k, v; gate, up, down
print(f'{36 * per_layer:,} weights: {36 * 2 * per_layer / 2 ** 30:.2f} GiB in bfloat16, {36 * nf4_bytes(per_layer) / 2 ** 30:.2f} GiB in NF4')
assert 3.8 < 2 * per_layer / nf4_bytes(per_layer) < 3.9

# %% [markdown]
# ## What we proved
#
# * The printed levels are quantiles of a normal distribution, and their codes carry more information than evenly spaced ones.
# * Codes, scales and restored weights are those of bitsandbytes, for sizes that divide evenly and for those that do not.
# * 4.127 bits per weight, and what an outlier does to blocks of different sizes.
#
# ## Try it
#
# 1. Quantise a matrix twice. Does the second rounding change anything? Why is that a good test?
# 2. Leave out double quantisation: how many megabytes more does the 3B need?
# 3. Sort each row before quantising. What happens to the error, and why does nobody do it?
#
# <details><summary>Solutions</summary>
#
# 1. No: the rounded values are levels already and round to themselves, if the block's largest value survived. A
#    quantiser for which this fails has lost its scale.
# 2. Without it one float32 per 64 weights, 0.5 bit; with it 8 bits per 64 and a float32 per 256 blocks, 0.127 bit.
#    For the 2.77 billion weights of the language model's matrices 0.373 bit are about 129 MB.
# 3. Equal magnitudes then share blocks and the error falls; but the order must be stored and undone at each product,
#    which costs more than it saves.
#
# </details>
