# %% [markdown]
# # LoRA
# > A frozen matrix and a small correction of low rank: by hand, equal to peft in outputs, gradients and merged weights.

# %%
#| default_exp lora

# %% [markdown]
# * **What** one class of fifteen lines that turns a linear layer into a frozen one with something small to learn
# * **Why** the optimiser keeps two numbers per trained weight; training one weight in a hundred is what fits on one card
# * **Paper** Hu et al., *LoRA*, §4 and eq. 3; MLLM-4D's script uses rank 128 and α 256; LMM-Track4D rank 16 and α 32 **[ours]**
# * **Needs** torch; peft to compare
# * **Time** 15 seconds
# * **Before this** [`14_vlm`](14_vlm.ipynb)

# %%
#| export
import torch
from torch import nn

# %%
import matplotlib.pyplot as plt
import numpy as np
from peft import LoraConfig, get_peft_model

from track4d_ref.presets import load_preset, read_settings

# %% [markdown]
# ## The idea in one picture
#
# A matrix $W$ of $d_{out} \times d_{in}$ numbers is kept. Beside it learn $A$ ($r \times d_{in}$) and $B$ ($d_{out} \times r$):
#
# $$h = W x + \frac{\alpha}{r}\, B A\, x \qquad\text{(LoRA, eq. 3, with the scale of its §4.1)}$$
#
# With $r = 16$ a matrix of the real 3B (2048 × 11008, 22.5 million numbers) is corrected by 209 thousand. $B$ starts at zero, so
# the first step begins exactly where the base model stands.

# %%
shapes = {'q': (2048, 2048), 'k': (256, 2048), 'v': (256, 2048), 'o': (2048, 2048), 'gate': (11008, 2048), 'up': (11008, 2048), 'down': (2048, 11008)}
full = {name: o * i for name, (o, i) in shapes.items()}
share = {rank: {name: rank * (o + i) for name, (o, i) in shapes.items()} for rank in (8, 16, 64, 128)}
fig, ax = plt.subplots(figsize=(6.5, 2.3), dpi=90)
ax.bar(list(full), list(full.values()), color='#e0e0e0', label='the matrix')
for (rank, counts), colour in zip(share.items(), ('#cfe8ff', '#7fb8d8', '#2a6f97', '#123f5c')):
    ax.plot(list(counts), list(counts.values()), 'o', color=colour, label=f'rank {rank}')
ax.set_yscale('log'); ax.set_ylabel('numbers'); ax.set_title('one layer of Qwen2.5-VL-3B', fontsize=10); ax.legend(fontsize=7, ncols=5, loc='lower center'); plt.show()
print({rank: f'{sum(counts.values()) / sum(full.values()):.2%} of a layer' for rank, counts in share.items()})
assert sum(share[16].values()) < 0.02 * sum(full.values())


# %% [markdown]
# ## By hand
#
# First the naive way, to see what the clever one must equal: make the corrected matrix and multiply.

# %%
def corrected_v1(weight, a, b, alpha, x): return x @ (weight + alpha / len(a) * b @ a).T


# %% [markdown]
# That makes a matrix of full size in every step, and its gradient too. The real one never forms $BA$: it multiplies from
# the right, $B(Ax)$, through a bottleneck of $r$ numbers. $A$ starts with the spread of an ordinary linear layer, $B$ with
# zero; were both zero, neither would ever get a gradient.

# %%
#| export
class LoraLinear(nn.Module):
    "A frozen nn.Linear plus α / r · B A x; starts as a no-op because B is zero."

    def __init__(self, base: nn.Linear, rank: int, alpha: float, dropout: float = 0.0, generator: torch.Generator | None = None):
        super().__init__()
        self.base, self.scale, self.dropout = base, alpha / rank, nn.Dropout(dropout)
        for parameter in base.parameters(): parameter.requires_grad_(False)
        spread = base.in_features ** -0.5
        self.a = nn.Parameter(torch.empty(rank, base.in_features).uniform_(-spread, spread, generator=generator))    # (r, in)
        self.b = nn.Parameter(torch.zeros(base.out_features, rank))                                                  # (out, r)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        "(..., in) → (..., out)."
        return self.base(x) + self.scale * (self.dropout(x) @ self.a.T) @ self.b.T

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        "A plain linear layer that computes the same (without dropout)."
        linear = nn.Linear(self.base.in_features, self.base.out_features, self.base.bias is not None, dtype=self.base.weight.dtype)
        linear.load_state_dict(self.base.state_dict())
        linear.weight += self.scale * self.b @ self.a
        return linear


# %%
generator = torch.Generator().manual_seed(0)
base = nn.Linear(40, 24)
layer = LoraLinear(base, rank=4, alpha=8, generator=generator)
x = torch.randn(3, 7, 40, generator=generator)
assert torch.equal(layer(x), base(x))                                         # a no-op at the start
layer(x).square().sum().backward()
print('first gradient of A', float(layer.a.grad.abs().max()), ' of B', round(float(layer.b.grad.abs().max()), 2), ' of W', base.weight.grad)
assert float(layer.a.grad.abs().max()) == 0 < float(layer.b.grad.abs().max()) and base.weight.grad is None

# %% [markdown]
# A look at the first gradient teaches something: $A$ gets none in the first step, because it stands behind a zero $B$. A test that
# demands "every gradient is non-zero" after *one* step would fail for a right implementation; after two it must hold.

# %%
with torch.no_grad(): layer.b -= 0.01 * layer.b.grad
layer.zero_grad(); layer(x).square().sum().backward()
assert float(layer.a.grad.abs().max()) > 0 and not torch.equal(layer(x), base(x))
assert torch.allclose(layer(x), corrected_v1(base.weight, layer.a, layer.b, 8, x) + base.bias, atol=1e-5)
assert torch.allclose(layer.merged()(x), layer(x), atol=1e-5)


# %% [markdown]
# ## Every linear layer of a part
#
# A model is adapted by exchanging layers in place. Which ones is said by a function of the name.

# %%
#| export
def adapt_linears(part: nn.Module, wanted, rank: int, alpha: float, dropout: float = 0.0, seed: int = 0) -> list[str]:
    "Exchange the nn.Linear layers whose name `wanted` accepts; freezes all else; their names in order."
    generator, changed = torch.Generator().manual_seed(seed), []
    for parameter in part.parameters(): parameter.requires_grad_(False)
    for name, child in list(part.named_modules()):
        if not isinstance(child, nn.Linear) or not wanted(name): continue
        parent, _, own = name.rpartition('.')
        setattr(part.get_submodule(parent), own, LoraLinear(child, rank, alpha, dropout, generator))
        changed.append(name)
    return changed


# %% [markdown]
# ## Equal to peft
#
# The same matrices in peft's layers and in ours, for two layers with a nonlinearity between, in float64. Outputs, the gradients of every $A$ and
# $B$, the gradient of the input, and the merged weights must agree.

# %%
def network(seed=3):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(40, 56), nn.GELU(), nn.Linear(56, 24, bias=False)).double()

ours = network()
theirs = get_peft_model(network(), LoraConfig(r=5, lora_alpha=11, target_modules=['0', '2'])).double()
names = adapt_linears(ours, lambda name: True, rank=5, alpha=11)
ours.double()
generator = torch.Generator().manual_seed(8)
for name in names:
    mine, its = ours.get_submodule(name), theirs.base_model.model.get_submodule(name)
    with torch.no_grad():
        mine.b.normal_(generator=generator)
        its.lora_A.default.weight.copy_(mine.a); its.lora_B.default.weight.copy_(mine.b)

def outputs_and_gradients(model, x):
    x = x.clone().requires_grad_()
    y = model(x); y.square().mean().backward()
    return y.detach(), x.grad, [p.grad for p in model.parameters() if p.requires_grad]

y, dx, grads = outputs_and_gradients(ours, x.double())
y_its, dx_its, grads_its = outputs_and_gradients(theirs, x.double())
gap = lambda a, b: float((a - b).abs().max())
print(names, f'largest differences: output {gap(y, y_its):.0e}, gradients {max(map(gap, grads, grads_its)):.0e}')
assert torch.allclose(y, y_its, atol=1e-12) and torch.allclose(dx, dx_its, atol=1e-12) and len(grads) == len(grads_its) == 4
assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(grads, grads_its))

# %%
merged_its = theirs.merge_and_unload()
for name in names: assert torch.allclose(ours.get_submodule(name).merged().weight, merged_its.get_submodule(name).weight, atol=1e-12)

# %% [markdown]
# As a picture: what the correction adds to a matrix, and its singular values. However long it is trained, only $r$ of them are not zero.

# %%
delta = (ours.get_submodule('0').merged().weight - ours.get_submodule('0').base.weight).detach()
fig, axes = plt.subplots(1, 2, figsize=(7, 2.3), dpi=90)
axes[0].imshow(delta, cmap='RdBu', aspect='auto'); axes[0].set(xlabel='input', ylabel='output', title='α/r · B A')
axes[1].stem(torch.linalg.svdvals(delta)); axes[1].set(xlabel='number', title='singular values', yscale='linear'); plt.tight_layout(); plt.show()
assert int(torch.linalg.matrix_rank(delta, rtol=1e-4)) == 5


# %% [markdown]
# ## What α is for
#
# The scale $\alpha/r$ keeps the size of a step about the same when the rank changes, so that a learning rate found for one rank serves
# another. Here a target of rank 3 is learned with ranks 1 to 32, once with α fixed, once without any scale.

# %%
def final_loss(rank, alpha, steps=150):
    generator = torch.Generator().manual_seed(5)
    base = nn.Linear(40, 40, bias=False); nn.init.zeros_(base.weight)
    target = torch.randn(40, 3, generator=generator) @ torch.randn(3, 40, generator=generator) / 10
    layer = LoraLinear(base, rank, alpha, generator=generator)
    optimizer, inputs = torch.optim.AdamW([layer.a, layer.b], lr=1e-2, weight_decay=0), torch.randn(256, 40, generator=generator)
    for _ in range(steps):
        loss = (layer(inputs) - inputs @ target.T).square().mean(); loss.backward(); optimizer.step(); optimizer.zero_grad()
    return loss.item()

ranks = (1, 2, 3, 4, 8, 16, 32)
curves = {'α = 8': [final_loss(r, 8) for r in ranks], 'no scale (α = r)': [final_loss(r, r) for r in ranks]}
fig, ax = plt.subplots(figsize=(5.5, 2.3), dpi=90)
for name, values in curves.items(): ax.plot(ranks, values, 'o-', label=name)
ax.axvline(3, color='k', lw=.6, ls=':'); ax.set(xscale='log', yscale='log', xlabel='rank (the target has 3)', ylabel='loss after 150 steps'); ax.legend(fontsize=8); plt.show()
assert curves['α = 8'][2] < 0.1 * curves['α = 8'][0]

# %% [markdown]
# ## The published values
#
# They stand in `settings.ini` beside ours. 4DP-QA has no adapters at all: it trains everything but the vision encoder, which is
# why its `lora_rank` is 0.

# %%
settings = read_settings()
keys = ('lora_rank', 'lora_alpha', 'lora_dropout', 'lora_targets', 'quantize')
for section in ('tiny', 'rtx24', 'paper-4dpqa', 'paper-mllm4d'):
    print(f'{section:14s}', {key: settings[section].get(key, '–') for key in keys})
assert settings['paper-mllm4d']['lora_rank'] == '128' and settings['paper-4dpqa']['lora_rank'] == '0'
assert load_preset('rtx24').lora_rank == 16 and load_preset('rtx24').lora_alpha == 32

# %% [markdown]
# ## What we proved
#
# * The layer is an exact no-op at the start; $A$ gets its first gradient in the second step.
# * Outputs, gradients and merged weights are peft's.
# * The correction has rank $r$ and no more.
#
# ## Try it
#
# 1. Start $A$ at zero and $B$ with spread. Is that as good? Start both at zero: what is learned?
# 2. Count the optimiser's bytes for the 3B with all weights trained, and with rank 16.
# 3. Replace α/r by α/√r. Which of the two curves above changes most?
#
# <details><summary>Solutions</summary>
#
# 1. $A = 0$ with spread in $B$ is a no-op as well and learns alike, with the roles exchanged; both at zero learn
#    nothing, since each one's gradient is a product with the other.
# 2. AdamW keeps two float32 numbers per trained weight: 3.75 billion weights give 30 GB. Rank 16 on all seven
#    matrices of 36 layers trains 29.9 million weights, 0.24 GB.
# 3. The one of the high rank: α/r shrinks its step with the rank, α/√r only with the root.
#
# </details>
