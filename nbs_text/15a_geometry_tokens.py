# %% [markdown]
# # Geometry tokens
# > Behind every visual token stands a second one, from a frozen encoder that knows depth, motion and tracks; trained in two stages.

# %%
#| default_exp geometry_tokens

# %% [markdown]
# * **What** a projector, the interleaving of its tokens with the visual ones, and the two stages of training
# * **Why** the published 4D VLM gains most of its motion skills from such tokens (4DP-QA Table 4, row VI: 84.4 → 87.7)
# * **Paper** 4DP-QA §3.4: features of L4P go through an MLP and are interleaved with the visual tokens; stage 1 trains only this
#   MLP, stage 2 the language model and both projectors, the encoders stay frozen. One geometry token per visual token and the
#   closed state before stage 1 are **[ours]**
# * **Needs** torch
# * **Time** 30 seconds
# * **Before this** `14_vlm`, `15_geometry_encoder`

# %%
#| export
import torch
from torch import nn

from track4d_ref.geometry_encoder import GeometryEncoder
from track4d_ref.storage import InputError
from track4d_ref.vision import tower_tokens
from track4d_ref.vlm import bare_model

# %%
import matplotlib.pyplot as plt
import numpy as np

from track4d_ref.geometry_encoder import load_encoder
from track4d_ref.patches import Video
from track4d_ref.presets import load_preset
from track4d_ref.simulator import simulate_clip
from track4d_ref.tokens import train_tokenizer
from track4d_ref.vision import load_tower
from track4d_ref.viz import PALETTE, use_style
from track4d_ref.vlm import build_vlm, model_inputs
use_style()


# %% [markdown]
# ## Interleaving
#
# Visual tokens $v_1, v_2, \dots$ and geometry tokens $g_1, g_2, \dots$ of the same cells become
# $v_1, g_1, v_2, g_2, \dots$ Both tokens of a cell get the same rotary position, so that the language model finds them at the
# same place and time. The plain version walks through the list; the one that is kept stacks and flattens.

# %%
def interleave_v1(visual: torch.Tensor, geometry: torch.Tensor) -> torch.Tensor:
    rows = []
    for v, g in zip(visual, geometry): rows += [v, g]
    return torch.stack(rows)


# %%
#| export
def interleave(visual: torch.Tensor, geometry: torch.Tensor) -> torch.Tensor:
    "Rows v1 g1 v2 g2 … (2 N, width) of two sets of tokens (N, width); InputError if their shapes differ."
    if visual.shape != geometry.shape:
        raise InputError(f'{tuple(visual.shape)} visual and {tuple(geometry.shape)} geometry tokens cannot be interleaved; '
                         'use an encoder of the same preset')
    return torch.stack([visual, geometry], 1).flatten(0, 1)

def doubled_places(is_visual: torch.Tensor) -> torch.Tensor:
    "Places (L',) in a row (L,) with every visual token taken twice in a row, everything else once."
    return torch.repeat_interleave(torch.arange(len(is_visual), device=is_visual.device), 1 + is_visual.long())


# %%
v, g = torch.randn(5, 7), torch.randn(5, 7)
assert torch.equal(interleave(v, g), interleave_v1(v, g))
row = torch.tensor([False, True, True, False])
assert doubled_places(row).tolist() == [0, 1, 1, 2, 2, 3]
try: interleave(v, g[:4]); raise AssertionError
except InputError as error: print(error)

# %% [markdown]
# The beginning of a row before and after: words grey, visual tokens blue, geometry tokens orange.

# %%
figure, axes = plt.subplots(2, 1, figsize=(8, 1.5), sharex=True)
kinds = [torch.tensor([0] * 3 + [1] * 12 + [0] * 9), torch.tensor([0] * 3 + [1, 2] * 12 + [0] * 9)]
for axis, kind, title in zip(axes, kinds, ('visual tokens only', 'interleaved')):
    strip = torch.full((1, 36), -1); strip[0, :len(kind)] = kind
    axis.imshow(strip, cmap=plt.matplotlib.colors.ListedColormap(['white', '#d5d8dc', PALETTE[0], PALETTE[4]]), vmin=-1, vmax=2, aspect='auto')
    axis.set_yticks([0], [title], fontsize=8)
axes[1].set_xlabel('token'); plt.show()
assert (kinds[1] == 2).sum() == (kinds[0] == 1).sum()


# %% [markdown]
# ## The model with a second eye
#
# `GeometryVLM` holds the model, the frozen encoder with its own frozen tower, and the projector, an MLP. Before stage 1 it is
# *closed*: geometry tokens are left out, and the row is exactly what the base model reads. A zero-initialised projector would
# not do: a token of zeros still takes its share of every attention. Opening is the first act of stage 1.

# %%
#| export
class GeometryVLM(nn.Module):
    "A Qwen2.5-VL with geometry tokens; `closed` it is the base model, bit for bit."

    def __init__(self, vlm, encoder: GeometryEncoder, tower, seed: int = 0):
        super().__init__()
        width = bare_model(vlm).config.text_config.hidden_size
        source = encoder.leave.normalized_shape[0]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.projector = nn.Sequential(nn.Linear(source, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.vlm, self.encoder, self.closed = vlm, encoder.requires_grad_(False), True
        self._tower = [bare_model(tower).requires_grad_(False).eval()]        # in a list: no part of this model's weights

    def get_base_model(self): return bare_model(self.vlm)

    @torch.no_grad()
    def geometry(self, videos: list) -> torch.Tensor:
        "Frozen features (tokens of all videos, width) of frames (T, H, W, 3) each."
        return torch.cat([self.encoder(tower_tokens(self._tower[0], [frames])[None])[0] for frames in videos])

    def tokens(self, visual: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        "What the language model gets for the video: visual tokens, interleaved with projected features once opened."
        return visual if self.closed else interleave(visual, self.projector(features))

    def open(self, scale: torch.Tensor) -> None:
        "Let geometry tokens in; `scale` (tokens, width) are visual tokens, whose size the projected ones take over."
        if self.closed: self.projector[-1].weight.data.mul_(float(scale.std()) / 0.25)
        self.closed = False


# %%
preset = load_preset('tiny')
tokenizer = train_tokenizer(['Does the camera move forward? Answer Yes or No.', 'Where is the red ball?'] * 9, 400)
base, tower = build_vlm(preset, tokenizer, 1), build_vlm(preset, tokenizer)
load_tower(base); load_tower(tower)
model = GeometryVLM(base, load_encoder(preset), tower)
clip = simulate_clip(5, preset, 2)
video = Video('clip', clip.view.frames, 0.25)
question = ({'role': 'user', 'content': 'Does the camera move forward?'}, {'role': 'assistant', 'content': 'Yes'})
count = sum(p.numel() for p in model.projector.parameters())
print(f'{count:,} parameters in the projector, {sum(p.numel() for p in base.parameters()):,} in the model')


# %%
def logits(model, inputs: dict) -> torch.Tensor:
    "Logits of the words of one sample, computed from embeddings, with or without geometry tokens."
    core = model.get_base_model()
    is_visual = inputs['input_ids'][0] == core.config.video_token_id
    visual = core.model.visual(inputs['pixel_values_videos'], grid_thw=inputs['video_grid_thw']).pooler_output
    words = core.get_input_embeddings()(inputs['input_ids'])[0]
    positions = core.model.get_rope_index(inputs['input_ids'], mm_token_type_ids=inputs['mm_token_type_ids'], video_grid_thw=inputs['video_grid_thw'],
                                          second_per_grid_ts=inputs['second_per_grid_ts'])[0][:, 0]
    places = torch.arange(len(is_visual)) if model.closed else doubled_places(is_visual)
    row = words[places].masked_scatter(is_visual[places][:, None], model.tokens(visual, model.geometry([clip.view.frames])))
    out = core.model(inputs_embeds=row[None], position_ids=positions[:, places][:, None], use_cache=False).last_hidden_state[0]
    return core.lm_head(out[~is_visual[places]])

inputs = model_inputs(base, tokenizer, [((video,), question)])
with torch.no_grad():
    plain = base(**inputs).logits[0][inputs['input_ids'][0] != base.config.video_token_id]
    closed = logits(model, inputs)
    seen = base.model.visual(inputs['pixel_values_videos'], grid_thw=inputs['video_grid_thw']).pooler_output
    model.open(seen)
    opened = logits(model, inputs)

# %%
figure, axis = plt.subplots(figsize=(7, 1.8))
for values, label, color in ((closed, 'closed', PALETTE[2]), (opened, 'opened', PALETTE[1])):
    axis.plot((values - plain).abs().amax(-1), 'o-', ms=3, color=color, label=label)
axis.set(xlabel='word of the sample', ylabel='largest change of a logit', title='the same weights, before and after opening'); axis.legend(); plt.show()

# %%
assert torch.equal(closed, plain) and not torch.allclose(opened, plain, atol=1e-4)
with torch.no_grad(): projected = model.projector(model.geometry([clip.view.frames]))
assert 0.2 < float(projected.std() / seen.std()) < 5


# %% [markdown]
# ## Two stages
#
# | stage | trained | frozen |
# |---|---|---|
# | 1 | the MLP of the geometry encoder | everything else |
# | 2 | the language model and both MLPs (the merger is the visual one) | both encoders |
#
# The published numbers: stage 1 takes 1.5K steps on half of the data, stage 2 3.1K steps on all of it.

# %%
#| export
def set_stage(model: GeometryVLM, stage: int) -> list[str]:
    "Switch gradients for stage 1 or 2; the names of what is trained."
    if stage not in (1, 2): raise InputError(f'stage {stage} does not exist; use 1 or 2')
    model.vlm.requires_grad_(stage == 2)
    visual = bare_model(model.vlm).model.visual
    visual.requires_grad_(False)
    visual.merger.requires_grad_(stage == 2)
    model.projector.requires_grad_(True); model.encoder.requires_grad_(False)
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


# %%
def one_step(stage: int) -> dict[str, float]:
    "How much each part moves in one step of plain gradient descent."
    names, before = set_stage(model, stage), {name: p.detach().clone() for name, p in model.named_parameters()}
    loss = torch.nn.functional.cross_entropy(logits(model, inputs)[-4:-1], inputs['labels'][0][-3:].clamp(min=0))
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad and parameter.grad is not None: parameter -= 0.1 * parameter.grad
            parameter.grad = None
    parts = {'projector': 'projector', 'merger': 'merger', 'tower': 'visual.blocks', 'encoder': 'encoder', 'language model': 'language_model'}
    moved = {name: float((p.detach() - before[name]).abs().max()) for name, p in model.named_parameters()}
    return {part: max(value for name, value in moved.items() if key in name) for part, key in parts.items()}

moves = {stage: one_step(stage) for stage in (1, 2)}
figure, axes = plt.subplots(1, 2, figsize=(7.5, 1.7), sharey=True)
for axis, (stage, values) in zip(axes, moves.items()):
    axis.bar(list(values), [value > 0 for value in values.values()], color=[PALETTE[2] if value > 0 else PALETTE[1] for value in values.values()])
    axis.set(title=f'stage {stage}: what one step moved', yticks=[0, 1]); axis.tick_params(axis='x', labelsize=6.5)
plt.show()

# %%
assert [part for part, value in moves[1].items() if value > 0] == ['projector']
assert [part for part, value in moves[2].items() if value > 0] == ['projector', 'merger', 'language model']
try: set_stage(model, 3); raise AssertionError
except InputError as error: print(error)

# %% [markdown]
# ## What we proved
#
# * interleaving keeps both orders and positions;
# * closed, the model is the base model, bit for bit; opened, every word hears the new tokens;
# * stage 1 moves the projector alone, stage 2 never moves an encoder.
#
# ## Try it
#
# 1. Append the geometry tokens behind the visual ones instead of interleaving them, with the same positions. Does a logit change?
# 2. Give both tokens of a cell different positions. Which of the two arrangements should be easier to learn?
#
# <details><summary>Solutions</summary>
#
# 1. Yes, a little: positions enter attention through rotations, but the causal mask lets a token see only what
#    precedes it, and that changes when tokens move behind others.
# 2. Equal positions say 'the same place' from the first step; with different ones the model must learn the pairing.
#    Interleaving with equal positions should be easier; train both before you claim it.
#
# </details>
