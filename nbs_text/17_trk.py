# %% [markdown]
# # The state token
# > TRK: a vector that is carried across turns and chunks, opened and closed by a gate; its size never grows.

# %%
#| default_exp trk

# %% [markdown]
# #| export
# B dialogues, S numbers of state each. A *step* is one turn of a dialogue, or one chunk of a long video: the hidden state
# `h` (B, width) at the token `[TRK]` goes in, a new state (B, S) comes out.

# %% [markdown]
# * **What** a gated state, how it enters the language model, and how a dialogue keeps it
# * **Why** "it" in turn four is the red ball of turn one; a long video does not fit into one context
# * **Paper** LMM-Track4D: "a dedicated streaming state token", persistent `[TRK]` for cross-turn propagation, singular in one
#   text and plural in another. **The update rule is not published; the equations below are [ours]**
# * **Needs** torch
# * **Time** 30 seconds
# * **Before this** `16_rtge`

# %%
#| export
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from track4d_ref.storage import InputError, read_arrays, write_arrays

# %%
import tempfile

import matplotlib.pyplot as plt
import numpy as np

from track4d_ref.viz import use_style

use_style()
torch.set_num_threads(1)


# %% [markdown]
# ## Remember, forget, or something between
#
# At step $k$ the hidden state $\mathbf h_k$ proposes a candidate $\mathbf c_k$, and a gate decides, number by number, how much of it
# replaces the old state:
#
# $$\mathbf c_k=\tanh\!\big(W_c[\mathbf h_k;\mathbf s_{k-1}]\big),\qquad
# \mathbf g_k=\sigma\!\big(W_g[\mathbf h_k;\mathbf s_{k-1};\mathrm{conf}_k]+b_g\big),\qquad
# \mathbf s_k=(1-\mathbf g_k)\odot\mathbf s_{k-1}+\mathbf g_k\odot\mathbf c_k$$
#
# $\mathrm{conf}_k=\sigma(\mathbf w^\top\mathbf h_k)$ is how sure the model is that it sees the target. It is trained by the visibility loss of
# `18_oskra` and set to 0 when there was no observation; then the gate should close, and the state coasts. It must not come
# from the decoder, which itself starts from $\mathbf s_k$.

# %%
#| export
def gated_update(state: torch.Tensor, candidate: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    "(1 - g) s + g c, all (B, S): g = 0 keeps the state to the last bit, g = 1 forgets it."
    return torch.where(gate == 0, state, state + gate * (candidate - state))


# %%
def gated_update_v1(state, candidate, gate):
    new = state.clone()
    for row in range(state.shape[0]):
        for column in range(state.shape[1]):
            g = gate[row, column]
            new[row, column] = (1 - g) * state[row, column] + g * candidate[row, column]
    return new

state, candidate, gate = torch.rand(3, 3, 5, dtype=torch.float64)
assert torch.allclose(gated_update(state, candidate, gate), gated_update_v1(state, candidate, gate))
assert torch.equal(gated_update(state, candidate, torch.zeros(3, 5)), state)
assert torch.allclose(gated_update(state, candidate, torch.ones(3, 5)), candidate)
assert torch.autograd.gradcheck(gated_update, [value.clone().requires_grad_() for value in (state, candidate, gate)])

# %% [markdown]
# What four constant gates make of the same noisy candidates: 0 never looks, 1 never remembers, small values average.

# %%
rng = torch.Generator().manual_seed(1)
seen = torch.sin(torch.arange(60) / 9) + 0.35 * torch.randn(60, generator=rng)
figure, axis = plt.subplots(figsize=(6.5, 2.8), dpi=90)
axis.plot(seen, '.', color='#bbbbbb', label='candidates')
for g, color in ((0.0, '#7B828D'), (0.15, '#0072B2'), (0.5, '#009E73'), (1.0, '#D55E00')):
    s, path = torch.zeros(1, 1), []
    for value in seen: s = gated_update(s, value.reshape(1, 1), torch.full((1, 1), g)); path.append(float(s))
    axis.plot(path, color=color, linewidth=1.2, label=f'g = {g}')
axis.set(xlabel='step', ylabel='state', title='One number of the state under four constant gates'); axis.legend(ncols=5, loc=(0, -0.42)); plt.show()
assert path[-1] == float(seen[-1])


# %% [markdown]
# ## How it enters and leaves the language model
#
# `[TRK]` is one new word of the vocabulary. Where it stands, its embedding carries the state: $\mathbf e_k=\mathbf e_{\rm TRK}+W_{\rm in}\mathbf s_{k-1}$.
# $W_{\rm in}$ starts at zero, so at the start every turn reads exactly what the model without memory reads. $b_g=0$: the gate starts
# near one half.
#
# The switch `memory` is the fair ablation. "Without TRK" can mean two things: no interface at all (then the decoder has
# nothing to read, and "no stable output" is no surprise), or *no memory*: the interface stays, but every turn begins from
# $\mathbf s_0=\mathbf 0$. We offer both; this is the second.

# %%
#| export
@dataclass(frozen=True)
class TrkConfig:
    "Sizes and switches of the state; all [ours]."
    width: int                   # of the language model's hidden states
    state_width: int = 128
    memory: bool = True          # False: every step starts from the zero state
    truncate_after: int = 2      # steps through which gradients flow

@dataclass(frozen=True)
class StateStep:
    "What one step gives: state and gate (B, S), and the logit (B,) of seeing the target."
    state: torch.Tensor
    gate: torch.Tensor
    confidence_logit: torch.Tensor


# %%
#| export
class StateToken(nn.Module):
    "TRK: the gated state behind the token `[TRK]`."
    def __init__(self, config: TrkConfig):
        super().__init__()
        self.config = config
        both = config.width + config.state_width
        self.into_word = nn.Linear(config.state_width, config.width, bias=False)
        self.candidate = nn.Linear(both, config.state_width)
        self.gate = nn.Linear(both + 1, config.state_width)
        self.confidence = nn.Linear(config.width, 1)
        for weight in (self.into_word.weight, self.gate.bias): nn.init.zeros_(weight)

    def start(self, count: int) -> torch.Tensor:
        "The empty state s₀ = 0 (count, S)."
        return self.gate.weight.new_zeros(count, self.config.state_width)

    def word(self, embedding: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        "The input embedding (B, width) of `[TRK]` with the state in it."
        return embedding + self.into_word(state * self.config.memory).to(embedding.dtype)

    def forward(self, hidden: torch.Tensor, state: torch.Tensor, observed: torch.Tensor | None = None) -> StateStep:
        "One step from `[TRK]`'s hidden states (B, width); where `observed` (B,) is False the confidence is 0."
        hidden = hidden.to(state.dtype)
        state = state * self.config.memory
        logit = self.confidence(hidden)
        confidence = logit.sigmoid() if observed is None else logit.sigmoid() * observed[:, None]
        both = torch.cat([hidden, state], -1)
        gate, candidate = self.gate(torch.cat([both, confidence], -1)).sigmoid(), self.candidate(both).tanh()
        return StateStep(gated_update(state, candidate, gate), gate, logit[:, 0])


# %%
torch.manual_seed(0)
token = StateToken(TrkConfig(width=24, state_width=10)).double()
hidden = torch.randn(3, 24, dtype=torch.float64)
word = torch.randn(3, 24, dtype=torch.float64)
step = token(hidden, token.start(3))
print(sum(p.numel() for p in token.parameters()), 'parameters; mean gate at the start', round(float(step.gate.mean()), 2))
assert torch.equal(token.word(word, step.state), word)                         # nothing enters yet, bit for bit
assert 0.3 < step.gate.mean() < 0.7
assert torch.autograd.gradcheck(lambda h, s: token(h, s).state, (hidden.requires_grad_(), step.state.detach().requires_grad_()))

# %% [markdown]
# Rows of the batch are dialogues. What happens in one never reaches another; in the picture, only the disturbed dialogue
# changes.

# %%
start = torch.randn(4, 10, dtype=torch.float64)
calm = token(hidden[:1].expand(4, -1), start).state
shock = hidden[:1].expand(4, -1).clone(); shock[2] += 5
change = (token(shock, start).state - calm).abs().detach()
figure, axis = plt.subplots(figsize=(6, 1.9), dpi=90)
axis.imshow(change, cmap='magma_r', aspect='auto'); axis.set(xlabel='number of the state', yticks=range(4), ylabel='dialogue', title='Dialogue 2 is disturbed; the others do not notice')
plt.show()
assert change[[0, 1, 3]].max() == 0 < change[2].min()


# %% [markdown]
# ## Many steps: a stream
#
# A long video is a stream of chunks. `stream` takes hidden states one chunk at a time and yields the state after each.
# Memory stays what it was at the first chunk, whether ten frames went by or a thousand. Splitting the stream anywhere and
# carrying the state over gives the same numbers, so *streaming equals one pass*.
#
# Gradients are cut every `truncate_after` steps: the loss of turn 3 does not reach turn 1.

# %%
#| export
def cut_gradient(state: torch.Tensor, number: int, config: TrkConfig) -> torch.Tensor:
    "The state before step `number` (0, 1, …), detached where a new block of `truncate_after` steps begins."
    return state.detach() if number % config.truncate_after == 0 else state

def stream(token: StateToken, chunks: Iterable[torch.Tensor], state: torch.Tensor,
           first: int = 0) -> Iterator[StateStep]:
    "The steps of a stream of hidden states (B, width); `first` is the number of the first one in its dialogue."
    for number, hidden in enumerate(chunks, first):
        step = token(hidden, cut_gradient(state, number, token.config))
        state = step.state
        yield step


# %%
chunks = torch.randn(9, 2, 24, dtype=torch.float64)
whole = [step.state for step in stream(token, chunks, token.start(2))]
head = [step.state for step in stream(token, chunks[:4], token.start(2))]
tail = [step.state for step in stream(token, chunks[4:], head[-1], first=4)]
assert all(torch.equal(a, b) for a, b in zip(whole, head + tail))

# %%
inputs = [torch.randn(1, 24, dtype=torch.float64, requires_grad=True) for _ in range(6)]
states = [step.state for step in stream(token, inputs, token.start(1))]
reach = np.zeros((6, 6))
for loss_at in range(6):
    found = torch.autograd.grad(states[loss_at].sum(), inputs, allow_unused=True, retain_graph=True)
    reach[loss_at] = [0 if g is None else float(g.norm()) for g in found]
figure, axis = plt.subplots(figsize=(3.6, 3), dpi=90)
axis.imshow(reach, cmap='Greens'); axis.set(xlabel='gradient with respect to turn', ylabel='loss of turn', title='Gradients reach back two turns at most')
plt.show()
assert reach[1, 0] > 0 and reach[2, 0] == 0 and reach[3, 2] > 0 and reach[5, :4].max() == 0

# %% [markdown]
# A thousand chunks: the number of live tensor elements after each step, counted by hand.

# %%
import gc

def live_elements():
    gc.collect()
    return sum(item.numel() for item in gc.get_objects() if torch.is_tensor(item))

with torch.no_grad():
    endless = (torch.randn(1, 24, dtype=torch.float64) for _ in range(1000))
    counts = [live_elements() for number, _ in enumerate(stream(token, endless, token.start(1))) if number % 250 == 249]
print('live elements after 250, 500, 750 and 1000 chunks:', counts)
assert max(counts) == min(counts)


# %% [markdown]
# ## Does a gate learn to close?
#
# A toy without a language model: the hidden state shows a position with noise while the target is visible, and only noise
# while it is hidden. The state must report the position all the time. Nothing tells the gate what to do but this loss and
# the visibility loss on the confidence.

# %%
def toy_batch(generator, count, length=24):
    place = torch.randn(count, 2, generator=generator)
    starts = torch.randint(4, 14, (count, 1), generator=generator)
    visible = ~((torch.arange(length) >= starts) & (torch.arange(length) < starts + 7))            # (B, T)
    noise = torch.randn(count, length, 2, generator=generator)
    shown = torch.where(visible[..., None], place[:, None] + 0.4 * noise, 1.5 * noise)
    return place, visible, torch.cat([shown, visible[..., None] * 2.0 - 1 + 0.1 * noise[..., :1]], -1)

def toy_loss(token, head, batch):
    place, visible, hidden = batch
    steps = list(stream(token, hidden.unbind(1), token.start(len(place))))
    error = torch.stack([head(step.state) for step in steps], 1) - place[:, None]
    logits = torch.stack([step.confidence_logit for step in steps], 1)
    seen = nn.functional.binary_cross_entropy_with_logits(logits, visible.float())
    return error.square().mean() + 0.1 * seen, error, steps


# %%
torch.manual_seed(0)
generator = torch.Generator().manual_seed(0)
toy, head = StateToken(TrkConfig(3, 16, truncate_after=24)), nn.Linear(16, 2)
optimiser = torch.optim.Adam([*toy.parameters(), *head.parameters()], lr=1e-2)
for _ in range(250):
    loss = toy_loss(toy, head, toy_batch(generator, 64))[0]
    optimiser.zero_grad(); loss.backward(); optimiser.step()
batch = toy_batch(generator, 256)
with torch.no_grad(): loss, error, steps = toy_loss(toy, head, batch)
gates = torch.stack([step.gate.mean(-1) for step in steps], 1)[:, 4:]
open_gate, closed_gate = float(gates[batch[1][:, 4:]].mean()), float(gates[~batch[1][:, 4:]].mean())
print(f'mean gate: {open_gate:.2f} visible, {closed_gate:.2f} hidden')
assert closed_gate < 0.5 * open_gate

# %%
row = 3
figure, axes = plt.subplots(2, 1, figsize=(7, 3.6), dpi=90, sharex=True)
hidden_frames = torch.nonzero(~batch[1][row])[:, 0]
for axis in axes: axis.axvspan(int(hidden_frames[0]) - 0.5, int(hidden_frames[-1]) + 0.5, color='#eeeeee', zorder=0)
axes[0].plot(batch[2][row, :, 0], '.', color='#999999', label='what is shown'); axes[0].axhline(float(batch[0][row, 0]), color='k', lw=0.8)
axes[0].plot((error + batch[0][:, None])[row, :, 0], color='#0072B2', label='read from the state'); axes[0].legend(ncols=2, loc='lower right')
axes[1].plot([float(step.gate[row].mean()) for step in steps], color='#D55E00'); axes[1].set(xlabel='step', ylabel='mean gate', ylim=(0, 1))
axes[0].set(title='Grey: the target is hidden. The gate closes and the state coasts', ylabel='position'); plt.show()
hidden_error = error[~batch[1]].square().mean().sqrt()
assert hidden_error < 0.5 * (batch[2][..., :2] - batch[0][:, None])[~batch[1]].square().mean().sqrt()


# %% [markdown]
# ## A dialogue keeps its state
#
# Beside the vector, a dialogue remembers the last position and velocity it returned, and when: the anchor `persist` of
# `18_oskra` goes on from there. `DialogueState` is saved and restored with the dialogue and refuses to serve another.

# %%
#| export
@dataclass(frozen=True)
class DialogueState:
    "What a dialogue carries from turn to turn; `last_*` are NaN before the first trajectory."
    dialogue: str
    turn: int
    vector: torch.Tensor           # (S,)
    last_m: torch.Tensor           # (3,) position
    velocity_mps: torch.Tensor     # (3,)
    last_s: float                  # when, on the clip's clock

def fresh_state(dialogue: str, token: StateToken) -> DialogueState:
    "The state before the first turn."
    unknown = torch.full((3,), float('nan'))
    return DialogueState(dialogue, 0, token.start(1)[0], unknown, unknown.clone(), float('nan'))


# %%
#| export
def save_state(state: DialogueState, path: Path | str) -> None:
    "Write a dialogue's state as npz."
    plain = lambda value: value.detach().cpu().numpy() if torch.is_tensor(value) else value
    write_arrays(path, **{name: plain(value) for name, value in vars(state).items()})

def load_state(path: Path | str, dialogue: str) -> DialogueState:
    "Read it back; InputError if the file belongs to another dialogue."
    arrays = read_arrays(path)
    try:
        owner = str(arrays['dialogue'].item())
        if owner != dialogue:
            raise InputError(f'{path}: is the state of dialogue {owner!r}, not of {dialogue!r}; give the right file')
        vectors = {name: torch.from_numpy(arrays[name]) for name in ('vector', 'last_m', 'velocity_mps')}
        return DialogueState(dialogue, arrays['turn'].item(), last_s=arrays['last_s'].item(), **vectors)
    except KeyError as missing: raise InputError(f'{path}: lacks {missing}; save the state again') from None


# %%
with tempfile.TemporaryDirectory() as folder:
    kept = fresh_state('kitti-7', token)
    kept = DialogueState('kitti-7', 2, step.state[0].detach(), torch.tensor([1.0, 2, 3]), torch.tensor([0.1, 0, 0]), 1.75)
    save_state(kept, f'{folder}/state.npz')
    back = load_state(f'{folder}/state.npz', 'kitti-7')
    try: load_state(f'{folder}/state.npz', 'kitti-8'); refused = ''
    except InputError as error_text: refused = str(error_text)
assert torch.equal(back.vector, kept.vector) and back.last_s == 1.75 and back.turn == 2 and "not of 'kitti-8'" in refused

# %% [markdown]
# ## What we proved
#
# * Gate 0 keeps the state to the last bit, gate 1 forgets it; at the start nothing enters the language model.
# * Dialogues do not leak into each other; a stream cut anywhere gives the same states; 1,000 chunks take the memory of one.
# * Gradients stop where they should.
# * A gate trained by nothing but its task closes while the target is hidden.
#
# ## Try it
#
# 1. Set `b_g` to +3 or −3 before the toy training. Which one never learns, and why?
# 2. Take the visibility loss out of `toy_loss`. Does the gate still close?
# 3. Let the target move with constant velocity. What does the state need in order to coast *along*?
#
# <details><summary>Solutions</summary>
#
# 1. At −3 the gate is nearly shut, and its gradient is small as well, so it opens late or never within the toy's
#    steps; at +3 it is open, forgets the past at every step, and must learn to close. Print the gate over the steps.
# 2. Then nothing tells it when the target is hidden except the position error behind the occlusion. Compare the mean
#    gate in hidden and visible frames.
# 3. The velocity and the time since the last sight; a state that is only carried can stay where it is, not move on.
#    `18_oskra`'s kinematic prior is that step, taken outside of the state.
#
# </details>
