# %% [markdown]
# # LMM-Track4D
# > The three parts on a Qwen2.5-VL: tokens that know their rays, a word with a state, answers in metres.

# %%
#| default_exp track4d

# %% [markdown]
# #| export
# B dialogues are asked one turn each at a time. A *seen clip* is what the model gets of a clip: one video per view, the
# tags of all visual tokens in the dialogue's world frame, and what each token covers, where that is known.

# %% [markdown]
# * **What** RTGE, TRK and OSK-RA put together, asked turn by turn; saved and loaded
# * **Why** each part is proven alone; here we prove that together they leave the base model untouched at the start
# * **Paper** LMM-Track4D: the list of modules and what they are for. **Where they attach is not published and therefore [ours]**
# * **Needs** torch, transformers
# * **Time** 50 seconds
# * **Before this** `11_dialogues`, `14_vlm`, `16_rtge` to `18_oskra`

# %%
#| export
import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from track4d_ref.cameras import camera_center, invert_pose, resize_intrinsics
from track4d_ref.clips import Clip
from track4d_ref.dialogues import STATE_WORD, Turn
from track4d_ref.oskra import HEADS, OskraConfig, OskraDecoder, Query, Scene, Trajectory, WaypointHead, beside_head
from track4d_ref.patches import PatchLayout, Video, resize_frames, rope_positions
from track4d_ref.rtge import RayTags, RayTimeEncoder, RtgeConfig, join_tags, scene_scale_m, view_tags
from track4d_ref.slots import token_coverage
from track4d_ref.storage import InputError, atomic_folder, read_json, write_json
from track4d_ref.tokens import IGNORE, chat_ids, prefix_ids
from track4d_ref.trk import StateStep, StateToken, TrkConfig
from track4d_ref.vlm import layout_of, load_vlm, save_vlm, video_inputs

# %%
import tempfile

import matplotlib.pyplot as plt

from track4d_ref.dialogue_sets import history
from track4d_ref.dialogues import make_dialogue
from track4d_ref.presets import load_preset
from track4d_ref.simulator import simulate_clip
from track4d_ref.tokens import train_tokenizer
from track4d_ref.viz import use_style
from track4d_ref.vlm import build_vlm, model_inputs

use_style()
torch.set_num_threads(1)


# %% [markdown]
# ## What the model sees of a clip
#
# A dialogue may have one camera or seven, standing or moving. The language model has no notion of a camera, but it does know
# several videos in one message. So views become videos, and what ties them together is geometry: the tags of `16_rtge`.
#
# Views become videos in the order of the clip. All poses are expressed in the frame of the first view's first camera, so the
# tags and the answers speak of the same metres. A long clip is shown as chunks; their tags keep the *clip's* clock.

# %%
#| export
@dataclass(frozen=True, eq=False)
class SeenClip:
    "One video per view, the tags of all their tokens (n), and the share of each token that an object covers, by id."
    name: str
    videos: tuple[Video, ...]
    tags: RayTags
    coverage: dict[int, torch.Tensor]
    features: torch.Tensor | None = None     # (n, width) of a frozen vision tower, if they are kept

def see_clip(clip: Clip, layout: PatchLayout, size_px: int | None = None, frames: tuple[int, int] | None = None) -> SeenClip:
    "Frames start … stop - 1 (default: all) of every view, resized to `size_px` squares if given."
    start, stop = frames or (0, clip.frames_count)
    clock_s, world = clip.times_s - clip.times_s[0], invert_pose(clip.view.w2c[0])
    poses = [view.w2c[start:stop] @ world for view in clip.views]
    scale_m = scene_scale_m(torch.as_tensor(camera_center(np.concatenate([view.w2c @ world for view in clip.views]))))
    videos, tags, covered = [], [], {item.id: [] for item in clip.objects}
    for number, (view, w2c) in enumerate(zip(clip.views, poses)):
        if view.frames is None: raise InputError(f'clip {clip.id}: view {view.name} has no frames; the model cannot see it')
        height, width = (size_px, size_px) if size_px else (view.height, view.width)
        pictures = resize_frames(view.frames[start:stop], height, width)
        step_s = float(np.diff(clock_s).mean()) if len(clock_s) > 1 else 1.0
        videos.append(Video(f'{clip.id} {view.name}', pictures, step_s))
        K = resize_intrinsics(view.K, width / view.width, height / view.height)
        grid = layout.grid(*pictures.shape[:3], f'{clip.id} {view.name}')
        tags.append(view_tags(K, w2c, clock_s[start:stop], grid, layout, scale_m, number, (0.0, float(clock_s[-1]))))
        for item in clip.objects if view.instances is not None and (height, width) == (view.height, view.width) else ():
            covered[item.id].append(token_coverage(view.instances[start:stop], item.id, layout))
    whole = {id: torch.cat(parts) for id, parts in covered.items() if len(parts) == len(videos)}
    return SeenClip(clip.id, tuple(videos), join_tags(tags).to(torch.float32), whole)


# %%
preset = load_preset('tiny', ('resolution=64', 'patch_size=8', 'text_width=96', 'text_layers=2', 'vision_width=48'))
clips = [simulate_clip(21, preset, index, rig='ring', domain='open', smooth=False) for index in range(3)]
dialogues = [make_dialogue(clip, np.random.default_rng(index)) for index, clip in enumerate(clips)]
layout = PatchLayout(8, 2, 2)
seen = [see_clip(clip, layout) for clip in clips]

# %%
print(clips[0], '→', len(seen[0].tags), 'visual tokens')
assert len(seen[0].tags) == 2 * 4 * 16 and seen[0].tags.origin_m[0].norm() < 1e-6      # the first camera is the origin
assert len(see_clip(clips[0], layout, frames=(4, 8)).tags) == 64

# %% [markdown]
# Rays of both views in the dialogue's frame, one moment, above the true path of the target:

# %%
figure, axis = plt.subplots(figsize=(5.2, 3.6), dpi=90)
shown, turn = seen[0].tags, dialogues[0].turns[0]
for view, color in enumerate(('#0072B2', '#D55E00')):
    here = (shown.view == view) & (shown.time_s == shown.time_s.min())
    cover = seen[0].coverage[dialogues[0].target][here]
    for o, d, c in zip(shown.origin_m[here], shown.direction[here], cover):
        axis.plot(*torch.stack([o, o + 8 * d])[:, [0, 2]].T, color=color, linewidth=0.5 + 3 * float(c), alpha=0.25 + 0.6 * float(c))
axis.plot(*turn.xyz_m[:, [0, 2]].T, 'ko-', markersize=4)
axis.set(xlabel='right (m)', ylabel='ahead (m)', aspect='equal', title=f'Thick rays: tokens that show the {dialogues[0].caption}'); plt.show()
assert all(set(s.coverage) == {item.id for item in c.objects} for s, c in zip(seen, clips))


# %% [markdown]
# ## The model
#
# Where do the parts attach? RTGE works on the merged tokens that leave the vision tower, before the language model reads them:
# that is the earliest place where a token is one thing with one centre, and the language model's own weights see nothing
# new while $\alpha=0$. TRK is a word, so it attaches where words do. The decoder stands beside the language model and reads its last layer at
# that word, together with the very tokens the language model read.
#
# One word is added to the vocabulary. Its row starts as the mean of all rows **[ours]**; the rows of the other words are
# untouched, and so are their logits. `head='gru'` replaces OSK-RA by a plain way-point network, for the ablation.

# %%
#| export
@dataclass(frozen=True)
class Track4DConfig:
    "Switches of all three parts in one place; all [ours]."
    use_rtge: bool = True; rtge_mode: str = 'add'; use_ray: bool = True; use_time: bool = True
    state_width: int = 64; memory: bool = True
    pool: int = 1                     # the language model sees the mean of pool x pool neighbouring tokens, the decoder all
    width: int = 64
    slots: int = 5; rounds: int = 2; anchor: str = 'ray'
    use_slots: bool = True; use_kinematics: bool = True; use_residual: bool = True
    horizon: int = 4
    head: str = 'oskra'               # or 'gru'
    beside: tuple[str, ...] = ()      # other decoders trained beside it, of HEADS: they see what it sees, and change nothing


# %%
#| export
DECODER_KEYS = ('width', 'slots', 'rounds', 'anchor', 'use_slots', 'use_kinematics', 'use_residual', 'horizon')

def add_state_word(vlm, tokenizer) -> int:
    "Add `[TRK]` to tokenizer and model where it is missing; its number. Other words keep their rows to the last bit."
    number = tokenizer.convert_tokens_to_ids(STATE_WORD)
    if number in (None, tokenizer.unk_token_id):
        tokenizer.add_tokens([STATE_WORD], special_tokens=False)
        number = tokenizer.convert_tokens_to_ids(STATE_WORD)
        fresh = True
    else: fresh = number >= len(vlm.get_input_embeddings().weight)
    if not fresh: return number
    mean = vlm.get_input_embeddings().weight.detach().mean(0)
    vlm.resize_token_embeddings(max(len(tokenizer), len(vlm.get_input_embeddings().weight)), mean_resizing=False)
    with torch.no_grad(): vlm.get_input_embeddings().weight[number] = mean
    return number


# %%
#| export
class Track4D(nn.Module):
    "LMM-Track4D: a Qwen2.5-VL with RTGE, TRK and OSK-RA."

    def __init__(self, vlm, tokenizer, config: Track4DConfig = Track4DConfig(), seed: int = 0):
        super().__init__()
        self.vlm, self.tokenizer, self.config = vlm, tokenizer, config
        self.word = add_state_word(vlm, tokenizer)
        width = vlm.config.text_config.hidden_size
        decoding = OskraConfig(width, width, config.state_width, **{name: getattr(config, name) for name in DECODER_KEYS})
        tagging = RtgeConfig(width, mode=config.rtge_mode, use_ray=config.use_ray, use_time=config.use_time)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.rtge = RayTimeEncoder(tagging)
            self.trk = StateToken(TrkConfig(width, config.state_width, config.memory))
            self.decoder = OskraDecoder(decoding) if config.head == 'oskra' else WaypointHead(decoding)
            self.ear = nn.Linear(width, width)                                # the words of the question, on their way to TRK
            self.namer = nn.Linear(config.state_width, width, bias=False)     # what TRK's state is about, as a word
            self.beside = nn.ModuleDict({name: beside_head(decoding, name) for name in config.beside})

    def heard(self, hidden: torch.Tensor, questions: list[str]) -> torch.Tensor:
        "Hidden states (b, width) at `[TRK]`, with the words of the questions that led to it in them."
        ids = [self.tokenizer(text, add_special_tokens=False).input_ids for text in questions]
        words = torch.stack([self.vlm.get_input_embeddings()(torch.tensor(one, device=hidden.device)).sum(0) for one in ids])
        return hidden + self.ear(nn.functional.layer_norm(words, words.shape[-1:]))

    def start(self, count: int) -> torch.Tensor:
        "Empty states (count, S)."
        return self.trk.start(count)

    def see(self, clips: list[SeenClip]) -> list[torch.Tensor]:
        "Tokens (n, width) of every clip with their ray and time; done once per dialogue."
        device, tower = self.vlm.device, self.vlm.model.visual
        if all(clip.features is not None for clip in clips): tokens = [clip.features.to(device) for clip in clips]
        else:
            inputs = video_inputs(self.vlm, tuple(video for clip in clips for video in clip.videos))
            pixels, grids = inputs['pixel_values_videos'].to(device, tower.dtype), inputs['video_grid_thw'].to(device)
            tokens = tower(pixels, grid_thw=grids).pooler_output.split([len(clip.tags) for clip in clips])
        if not self.config.use_rtge: return list(tokens)
        return [self.rtge(rows, clip.tags.to(device)) for rows, clip in zip(tokens, clips)]


# %%
corpus = [m['content'] for d in dialogues for m in history(d, len(d.turns), 'gold', as_text=True)] * 4 + ['Yes. No.'] * 3
tokenizer = train_tokenizer(corpus, 400)
base = build_vlm(preset, tokenizer)
untouched = base.get_input_embeddings().weight.detach().clone()
model = Track4D(base, tokenizer)

# %%
sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in (('language and vision', model.vlm), ('RTGE', model.rtge), ('TRK', model.trk), ('OSK-RA', model.decoder))}
for name, count in sizes.items(): print(f'{name:20s}{count:9,} parameters')

# %%
assert torch.equal(model.vlm.get_input_embeddings().weight[:len(untouched)], untouched) and model.word == len(tokenizer) - 1
assert tokenizer.tokenize('Its path is [TRK].')[-2:] == ['[TRK]', '.']


# %% [markdown]
# ## One turn
#
# Turns are asked one after the other, because the state that turn 3 carries in exists only after turn 2. What does *not* depend on
# the turn is done once: the vision tower runs once per dialogue, its tokens are used in every turn. A batch holds turn k
# of several dialogues; shorter ones leave the batch when they are over.
#
# The row of a turn is: videos, history, question, and in training the answer. At the last `[TRK]` of the row the embedding
# carries the state; the hidden state there updates it, and the decoder reads both. Only the words of this turn's answer are
# learned. `[TRK]`s of earlier turns are ordinary words.

# %%
#| export
@dataclass(frozen=True, eq=False)
class TurnRow:
    "One dialogue at one turn: the answer is the last message, or missing; `said` are tokens of an answer on its way."
    seen: SeenClip
    messages: tuple[dict, ...]
    said: tuple[int, ...] = ()

@dataclass(frozen=True)
class TurnOutput:
    "Logits (B, L, vocabulary), labels (B, L), which rows hold a `[TRK]` (B,), and TRK's step for all of them."
    logits: torch.Tensor
    labels: torch.Tensor
    asked: torch.Tensor
    hidden: torch.Tensor       # (B, width) at `[TRK]`, at the last token where there is none
    step: StateStep

    def select(self, index: torch.Tensor) -> 'TurnOutput':
        "Some of the rows."
        step = StateStep(**{name: value[index] for name, value in vars(self.step).items()})
        return TurnOutput(self.logits[index], self.labels[index], self.asked[index], self.hidden[index], step)


# %%
#| export
def shown_grids(model: Track4D, seen: SeenClip) -> list[tuple[int, int, int]]:
    "Grids (t, h, w), counted in patches, of what the language model sees of every view."
    layout, pool = layout_of(model.vlm), model.config.pool
    grids = [layout.grid(*video.frames.shape[:3], video.name) for video in seen.videos]
    if any(side % (pool * layout.merge) for grid in grids for side in grid[1:]):
        raise InputError(f'{seen.name}: pool = {pool} does not divide the tokens of {grids[0][1:]} patches; use 1')
    return [(t, h // pool, w // pool) for t, h, w in grids]

def shown_tokens(model: Track4D, seen: SeenClip, tokens: torch.Tensor) -> torch.Tensor:
    "The visual tokens (n, width) as the language model sees them: means over pool x pool neighbours."
    pool, merge, parts, at = model.config.pool, layout_of(model.vlm).merge, [], 0
    for t, h, w in shown_grids(model, seen):
        shape = t, h // merge, pool, w // merge, pool
        parts.append(tokens[at:at + t * h * w * pool ** 2 // merge ** 2].unflatten(0, shape).mean((2, 4)).flatten(0, 2))
        at += t * h * w * pool ** 2 // merge ** 2
    return torch.cat(parts)

def row_ids(model: Track4D, row: TurnRow) -> tuple[list[int], list[int], np.ndarray]:
    "(ids, labels, positions (3, L)) of a row; only the last answer has labels."
    layout, grids = layout_of(model.vlm), shown_grids(model, row.seen)
    front = prefix_ids(model.tokenizer, tuple(map(layout.tokens, grids)))
    ids, labels = chat_ids(model.tokenizer, row.messages, row.seen.name)
    before = row.messages[:-2] if row.messages[-1]['role'] == 'assistant' else row.messages
    earlier = len(chat_ids(model.tokenizer, before, row.seen.name)[0]) if before else 0
    ids, labels = ids + list(row.said), [IGNORE] * (len(front) + earlier) + labels[earlier:] + list(row.said)
    config = model.vlm.config
    seconds = [video.seconds_per_frame * layout.temporal for video in row.seen.videos]
    where = np.array(front + ids) == config.video_token_id
    return front + ids, labels, rope_positions(where, grids, seconds, config.vision_config.tokens_per_second, layout.merge)


# %%
#| export
def run_turn(model: Track4D, rows: list[TurnRow], tokens: list[torch.Tensor], state: torch.Tensor,
             observed: torch.Tensor | None = None) -> TurnOutput:
    "Read the rows with states (B, S); tokens are those of `Track4D.see`. Rows without `[TRK]` keep their state."
    device = model.vlm.device
    made = [row_ids(model, row) for row in rows]
    stack = lambda index, filler: pad_sequence([torch.as_tensor(m[index]) for m in made], True, filler).to(device)
    ids, labels = stack(0, model.tokenizer.pad_token_id), stack(1, IGNORE)
    lengths = torch.tensor([len(m[0]) for m in made], device=device)
    positions = pad_sequence([torch.as_tensor(m[2]).T for m in made], True).permute(2, 0, 1).to(device)
    words = model.vlm.get_input_embeddings()(ids)
    tokens = [shown_tokens(model, row.seen, part) for row, part in zip(rows, tokens)]
    words = words.masked_scatter((ids == model.vlm.config.video_token_id)[..., None], torch.cat(tokens).to(words.dtype))
    order = torch.arange(ids.shape[1], device=device)
    said = (ids == model.word) & (labels != IGNORE)
    asked, last = said.any(1), torch.where(said, order, -1).amax(1)
    at = torch.where(asked, last, lengths - 1)
    carrying = model.trk.word(words[torch.arange(len(rows)), at], state)
    here = (order == at[:, None]) & asked[:, None]
    words = torch.where(here[..., None], carrying[:, None], words)
    hidden = model.vlm.model(inputs_embeds=words, attention_mask=(order < lengths[:, None]).long(), position_ids=positions,
                             use_cache=False).last_hidden_state
    asking = [[said['content'] for said in row.messages if said['role'] == 'user'][-1] for row in rows]
    at_word = model.heard(hidden[torch.arange(len(rows)), at], asking)
    step = model.trk(at_word, state, observed)
    kept = torch.where(asked[:, None], step.state, state)
    return TurnOutput(model.vlm.lm_head(hidden), labels, asked, at_word, dataclasses.replace(step, state=kept))


# %%
rows = [TurnRow(s, (*history(d, 0, 'gold'), *({'role': r, 'content': c} for r, c in (('user', d.turns[0].question), ('assistant', d.turns[0].answer)))))
        for s, d in zip(seen, dialogues)]

# %%
with torch.no_grad():
    tokens = model.see(seen)
    output = run_turn(model, rows, tokens, model.start(3))
print('logits', tuple(output.logits.shape), ' rows with [TRK]:', output.asked.tolist())
assert output.asked.all() and output.step.state.shape == (3, 64)

# %% [markdown]
# ## The no-op, proven
#
# The same rows through the library's own forward of the *untouched* model: every logit of every old word is the same, to the
# last bit, on every token before the new word. After it, too, while the state is zero or $W_{\rm in}$ is.

# %%
with torch.no_grad():
    library = base(**{k: v for k, v in model_inputs(base, tokenizer, [(s.videos, r.messages) for s, r in zip(seen, rows)]).items() if k != 'labels'}).logits
    later = run_turn(model, rows, tokens, torch.randn(3, 64)).logits

# %%
real = torch.stack([torch.arange(output.logits.shape[1]) < len(row_ids(model, r)[0]) for r in rows])
print('largest difference from the base model:', float((output.logits - library)[real].abs().max()))
assert torch.equal(output.logits[real], library[real]) and torch.equal(later[real], output.logits[real])

# %%
with torch.no_grad():
    model.rtge.strength.fill_(0.2); model.trk.into_word.weight.normal_(std=0.2)
    changed = run_turn(model, rows, model.see(seen), torch.randn(3, 64)).logits
    model.rtge.strength.zero_(); model.trk.into_word.weight.zero_()
figure, axis = plt.subplots(figsize=(7, 1.9), dpi=90)
axis.plot((changed - library).abs().amax(-1)[0], lw=1, color='#D55E00', label='parts opened'); axis.plot((output.logits - library).abs().amax(-1)[0], lw=1.5, color='#0072B2', label='as built')
axis.set(xlabel='token of the row', ylabel='largest |difference|', title='Against the base model'); axis.legend(); plt.show()
assert (changed - library)[real].abs().max() > 1e-3


# %% [markdown]
# ## From a turn to a trajectory
#
# "Where is it between 0.5 s and 1.5 s?" should not be answered from what happened at 3 s. The queried segment therefore becomes a
# mask. A token spans a pair of frames, so half a pair more is let in on both sides.
#
# The decoder looks only at the tokens of the queried segment. It is asked for the turn's moments.

# %%
#| export
def decode_turn(model: Track4D, rows: list[TurnRow], tokens: list[torch.Tensor], output: TurnOutput, turns: list[Turn],
                last: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None,
                decoder: nn.Module | None = None) -> tuple[Trajectory, Scene]:
    "The trajectories at the turns' moments; `last` = position (B, 3), velocity (B, 3), time (B,) of the turn before."
    device = output.hidden.device
    tags = [row.seen.tags.to(device) for row in rows]
    batch = RayTags(**{name: pad_sequence([getattr(t, name) for t in tags], True) for name in vars(tags[0])})
    times_s = torch.as_tensor(np.stack([turn.times_s for turn in turns]), dtype=torch.float32, device=device)
    lengths = torch.tensor([len(t) for t in tags], device=device)
    exists = torch.arange(batch.time.shape[1], device=device) < lengths[:, None]
    gap_s = batch.step_s.amax(1, keepdim=True) / 2 + 1e-3                     # a token spans its pair of frames
    inside = exists & (batch.time_s >= times_s[:, :1] - gap_s) & (batch.time_s <= times_s[:, -1:] + gap_s)
    views = max(int(t.view.max()) + 1 for t in tags)
    scene = Scene(pad_sequence(tokens, True).float(), batch, inside, views)
    unknown = torch.full((len(rows), 3), float('nan'), device=device)
    place_m, speed_mps, when_s = last or (unknown, unknown, unknown[:, 0])
    query = Query(output.hidden.float(), output.step.state, times_s, place_m, speed_mps, when_s)
    return (decoder or model.decoder)(scene, query), scene

def answer_loss(output: TurnOutput) -> torch.Tensor:
    "Mean cross-entropy of the answers' words."
    logits, labels = output.logits[:, :-1].flatten(0, 1).float(), output.labels[:, 1:].flatten()
    return cross_entropy(logits, labels, ignore_index=IGNORE)


# %%
with torch.no_grad(): path, scene = decode_turn(model, rows, tokens, output, [d.turns[0] for d in dialogues])
print('answer loss', round(float(answer_loss(output)), 2), ' log of the vocabulary', round(float(np.log(len(tokenizer))), 2))
assert path.xyz_m.shape == (3, 4, 3) and path.xyz_m.isfinite().all() and path.residual_m.abs().max() == 0

# %%
plain = Track4D(build_vlm(preset, tokenizer), tokenizer, Track4DConfig(head='gru'))
with torch.no_grad(): assert decode_turn(plain, rows, tokens, output, [d.turns[0] for d in dialogues])[0].xyz_m.shape == (3, 4, 3)

# %% [markdown]
# What the untrained decoder looks at: slot 0's attention at the third moment, in both views. It is close to uniform, and the anchor
# lies where the middle rays of the two views meet.

# %%
figure, axes = plt.subplots(1, 4, figsize=(7.6, 2.0), dpi=90)
for view in range(2):
    axes[2 * view].imshow(clips[0].views[view].frames[4]); axes[2 * view].set_title(f'view {view + 1}, frame 4', fontsize=8)
    axes[2 * view + 1].imshow(path.focus[0, 2, view].reshape(2, 4, 4, 4)[view].amax(0), cmap='magma', vmin=0); axes[2 * view + 1].set_title('slot 0', fontsize=8)
for axis in axes: axis.set(xticks=[], yticks=[])
plt.show()
assert torch.allclose(path.focus.sum(-1), torch.ones(3, 4, 2), atol=1e-5)

# %% [markdown]
# A dialogue of one clip must not feel the others in its batch, and turns must hand on their state:

# %%
with torch.no_grad():
    alone = run_turn(model, rows[1:2], tokens[1:2], model.start(1))
    path_alone, _ = decode_turn(model, rows[1:2], tokens[1:2], alone, [dialogues[1].turns[0]])
assert torch.allclose(alone.step.state[0], output.step.state[1], atol=1e-5)
assert torch.allclose(path_alone.xyz_m[0], path.xyz_m[1], atol=1e-3)

# %% [markdown]
# ## Streaming
#
# A long video goes through in chunks: each is read alone, with `[TRK]` behind it, and only the state is kept. Time and memory
# per chunk do not depend on how many came before.

# %%
#| export
STREAM_MESSAGES = ({'role': 'user', 'content': 'Watch.'}, {'role': 'assistant', 'content': STATE_WORD})

def stream_chunks(model: Track4D, chunks, state: torch.Tensor):
    "Yield TRK's step after every SeenClip of a stream, for one dialogue; state (1, S)."
    for chunk in chunks:
        step = run_turn(model, [TurnRow(chunk, STREAM_MESSAGES)], model.see([chunk]), state).step
        state = step.state
        yield step


# %%
parts = [see_clip(clips[0], layout, frames=(start, start + 2)) for start in (0, 2, 4, 6)]
with torch.no_grad():
    whole = [step.state for step in stream_chunks(model, parts, model.start(1))]
    front = [step.state for step in stream_chunks(model, parts[:2], model.start(1))]
    back = [step.state for step in stream_chunks(model, parts[2:], front[-1])]

# %%
assert all(torch.equal(a, b) for a, b in zip(whole, front + back)) and not torch.equal(whole[0], whole[3])


# %% [markdown]
# ## Saved and loaded
#
# The language model is a usual checkpoint folder; the parts stand beside it as safetensors. A dialogue's own state is saved by
# `trk.save_state`.

# %%
#| export
def save_track4d(model: Track4D, folder: Path | str) -> None:
    "Write folder/vlm, folder/parts.safetensors and folder/track4d.json, whole or not at all."
    parts = {name: value.contiguous() for name, value in model.state_dict().items() if not name.startswith('vlm.')}
    with atomic_folder(folder) as partial:
        save_vlm(model.vlm, model.tokenizer, Path(partial) / 'vlm')
        save_file(parts, Path(partial) / 'parts.safetensors')
        write_json(Path(partial) / 'track4d.json', vars(model.config))

def load_track4d(folder: Path | str) -> Track4D:
    "The model of a folder written by `save_track4d`; InputError if a part is missing or does not fit."
    folder = Path(folder)
    values = read_json(folder / 'track4d.json')
    try: config = Track4DConfig(**values | {'beside': tuple(values.get('beside', ()))})
    except TypeError as error: raise InputError(f'{folder}/track4d.json: {error}; save the model again') from None
    model = Track4D(*load_vlm(folder / 'vlm'), config)
    try: missing, unknown = model.load_state_dict(load_file(folder / 'parts.safetensors'), strict=False)
    except (SafetensorError, RuntimeError, OSError) as error:
        raise InputError(f'{folder}/parts.safetensors: not readable ({error}); save the model again') from None
    wrong = [name for name in missing if not name.startswith('vlm.')] + unknown
    if wrong: raise InputError(f'{folder}/parts.safetensors: does not fit ({wrong[:3]}); save the model again')
    return model.eval()


# %%
with tempfile.TemporaryDirectory() as folder:
    save_track4d(model, f'{folder}/model')
    again = load_track4d(f'{folder}/model')
    with torch.no_grad(): twin = run_turn(again, rows, again.see(seen), again.start(3))
    try: load_track4d(folder); refused = ''
    except InputError as error: refused = str(error)
assert torch.equal(twin.logits, output.logits) and torch.equal(twin.step.state, output.step.state) and 'no such file' in refused

# %% [markdown]
# ## What we proved
#
# * As built, the model's logits equal those of the untouched base to the last bit, in every turn; opened, they do not.
# * Batches do not mix; a stream may be cut anywhere; a saved model answers the same.
#
# ## Try it
#
# 1. Swap the two views of a clip. Which numbers must stay the same, which may change?
# 2. Count the visual tokens of a dialogue with seven views at the papers' resolution.
# 3. Put the state into *every* `[TRK]` of the history instead of the last one. Does the no-op still hold?
#
# <details><summary>Solutions</summary>
#
# 1. Every 3D position must stay within rounding if the world frame stays that of the same camera; logits may change,
#    since the order of the tokens did. If the frame is that of the *first* view, all coordinates change with it.
# 2. 32 frames of 448 × 448: 16 pairs × 256 tokens = 4,096 per view, 28,672 for seven; the preset's limit is 8,192.
# 3. Yes at the start, since the state's matrix begins at zero. After training it does not: earlier words would carry
#    a state they had not yet when they were spoken.
#
# </details>
