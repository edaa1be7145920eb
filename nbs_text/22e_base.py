# %% [markdown]
# # An off-the-shelf model of our own
# > The recipe of a tiny Qwen2.5-VL that names what single frames show and knows no word for motion; how far it has come.

# %%
#| default_exp base

# %% [markdown]
# * **What** how the base is made: one tokenizer for the whole project, tokens that name, then lessons on stills that grow longer
# * **Why** the papers' experiment is what *4D questions* add to a model that already sees; so that model must exist at our scale
# * **Paper** stands for the pre-trained Qwen2.5-VL of 4DP-QA §4.1; the two stages and their losses are **[ours]**
# * **Needs** torch
# * **Time** 50 seconds; the shipped base took an hour and a quarter on one core
# * **Before this** [`22d_single_frames`](22d_single_frames.ipynb), [`22da_slideshows`](22da_slideshows.ipynb), [`14b_whitening`](14b_whitening.ipynb), [`14d_mimetic`](14d_mimetic.ipynb), [`22_sft`](22_sft.ipynb)

# %%
#| export
import json
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy, smooth_l1_loss
from tqdm.auto import tqdm

# %%
#| export
from track4d_ref.dialogues import make_dialogue
from track4d_ref.measurements import measure
from track4d_ref.mimetic import mimetic_start
from track4d_ref.packing import ClipExample, PackedClip, answer_logits, ask_packed, collate, packed_loss, pick, visual_features
from track4d_ref.patches import PatchLayout
from track4d_ref.presets import Preset
from track4d_ref.questions import FORMS, Style, ask_all
from track4d_ref.relations import ask_relations
from track4d_ref.runcard import run_card
from track4d_ref.scene_points import points_from_depth
from track4d_ref.sft import TrainPlan, TrainState, load_checkpoint, make_optimizers, save_checkpoint, schedule, trainable, write_log
from track4d_ref.simulator import simulate_clips
from track4d_ref.single_frames import FACTS, Picture, ask_picture, pictures_of
from track4d_ref.slideshows import NAMES, caption_dialogues, cell_names, pack_lesson, slideshow, token_naming_loss
from track4d_ref.spatial_cot import cot_prompt, write_trace
from track4d_ref.storage import InputError, atomic_path, write_json
from track4d_ref.templates import LETTERS
from track4d_ref.tokens import train_tokenizer
from track4d_ref.vision import dense_targets, tower_tokens
from track4d_ref.vlm import bare_model, build_vlm, layout_of, save_vlm
from track4d_ref.whitening import whiten_patch_embedding

# %%
import tempfile

import matplotlib.pyplot as plt

from track4d_ref.presets import load_preset
from track4d_ref.viz import PALETTE, use_style
use_style(); torch.set_num_threads(1)


# %% [markdown]
# ## One tokenizer for everything
#
# Whatever a later notebook writes, the base must be able to read: 4D questions in all forms, tracks, relations with their
# chains of thought, dialogues with trajectories, and the questions on single frames. The byte-level tokenizer is trained on a
# sample of all of them; what it has not seen it spells.

# %%
#| export
def corpus(preset: Preset, clips: int = 40, seed: int = 0) -> list[str]:
    "Sentences of every kind the project writes, from simulated clips; words of answers also alone, as they begin an answer."
    rng, asked, told = np.random.default_rng(seed), [], []
    for clip in simulate_clips(clips, seed, preset):
        scene, dialogue = points_from_depth(clip), make_dialogue(clip, rng)
        pairs = [(question.prompt, question.answer) for question in ask_all(clip, rng, per_type=2, style=Style(forms=FORMS))]
        pairs += [(cot_prompt(question), write_trace(question, measure(clip), rng)) for question in ask_relations(scene, rng)]
        pairs += [(turn.question, turn.answer) for turn in (dialogue.turns if dialogue else ())]
        pairs += [(found.prompt, found.answer) for picture in pictures_of(clip) for found in ask_picture(picture, rng, 6)]
        asked += [prompt for prompt, _ in pairs]; told += [answer for _, answer in pairs]
    words = sorted({word for answer in told for word in re.findall('[a-zA-Z]+', answer)})
    return asked + told + [' '.join(('', *NAMES)), '\n'.join(NAMES)] * len(told) + ['\n'.join(words)] * (len(told) // 8)


# %%
preset = load_preset('tiny')
texts = corpus(preset, clips=3)
tokenizer = train_tokenizer(texts, preset.vocabulary)
lengths = {name: len(tokenizer.tokenize(text)) / len(text.split()) for name, text in zip(('question', 'answer', 'names'), (texts[0], texts[1], texts[-1]))}
print({name: round(value, 2) for name, value in lengths.items()}, 'tokens per word')
assert all(len(tokenizer.tokenize(text)) == 1 for name in NAMES for text in (name, f' {name}'))


# %% [markdown]
# ## Clips for the base
#
# One simulation serves all stages. Of every clip we keep the frames, the instance maps, the captions, and for each visual token
# the flow, the log depth that notebook [`14a_vision`](14a_vision.ipynb) defines. Cells are 14 pixels wide (`patch_size` 7,
# merged two by two), so that a thing of ordinary size fills a token of its own; with Qwen's 28 pixels two things often share one.

# %%
#| export
@dataclass(frozen=True, eq=False)
class BaseClips:
    "Frames (N, T, H, W, 3), instances (N, T, H, W), per token flow and log depth (N, tokens, 3), captions of every clip."
    frames: np.ndarray
    instances: np.ndarray
    truth: np.ndarray
    captions: list[list]

    def picture(self, clip: int, frame: int) -> Picture:
        "One frame as a picture."
        return Picture(f'clip {clip} frame {frame}', self.frames[clip, frame], self.instances[clip, frame],
                       tuple(map(tuple, self.captions[clip])))

def make_base_clips(preset: Preset, clips: int, seed: int) -> BaseClips:
    "Simulate the clips of a series with what the stages need."
    frames, instances, truth, captions = [], [], [], []
    layout = PatchLayout(preset.patch_size, preset.merge_size, preset.temporal_patch_size)
    for clip in tqdm(simulate_clips(clips, seed, preset), 'simulating', total=clips, unit='clip', disable=clips < 100):
        frames.append(clip.view.frames); instances.append(clip.view.instances.astype(np.uint8))
        truth.append(dense_targets(clip, layout, 2)[:, :3].astype(np.float16))
        captions.append([(int(item.id), item.caption) for item in clip.objects])
    return BaseClips(np.stack(frames), np.stack(instances), np.stack(truth), captions)


# %%
#| export
def keep_base_clips(out: Path, preset: Preset, clips: int, seed: int) -> BaseClips:
    "The same, kept in out/clips.npz and read from there the next time."
    path = out / 'clips.npz'
    if not path.exists():
        made = make_base_clips(preset, clips, seed)
        out.mkdir(parents=True, exist_ok=True)
        words = np.frombuffer(json.dumps(made.captions).encode(), np.uint8)
        with atomic_path(path) as partial, open(partial, 'wb') as file:
            np.savez(file, frames=made.frames, instances=made.instances, truth=made.truth, captions=words)
    with np.load(path, allow_pickle=False) as kept:
        return BaseClips(kept['frames'], kept['instances'], kept['truth'], json.loads(kept['captions'].tobytes()))


# %%
small = load_preset('tiny', ('patch_size=7', 'text_layers=2', 'text_width=96', 'text_heads=4', 'text_kv_heads=4',
                             'vision_layers=1', 'vision_width=64'))
folder = Path(tempfile.mkdtemp())
few = keep_base_clips(folder, small, 24, 1)
again = keep_base_clips(folder, small, 24, 1)
assert np.array_equal(few.frames, again.frames) and few.captions == again.captions
assert few.truth.shape == (24, 4 * 64, 3) and few.picture(3, 5).frame.shape == (112, 112, 3)


# %% [markdown]
# ## Stage one: tokens that say what they are
#
# A naming loss on every visual token: normalised and read through the names' rows of the word table, a token must put its mass on
# the words for what it covers. Only names compete: with the whole vocabulary below the fraction every other word is pushed the same
# way, and after 2,600 steps all of them were nearly one vector (mean cosine 0.83; `LOG.md`). That is undone now; by itself it did not
# make the lessons better.
#
# The table is the input *and* output layer, so the same vectors that will carry the question's words "red" and "ball" become the
# directions in which visual tokens are red or a ball; attention that starts as likeness (notebook
# [`14d_mimetic`](14d_mimetic.ipynb)) then compares them. Cells without a thing are many; they count a fifth **[ours]**.
#
# A linear layer that is thrown away afterwards also reads from each token its place in the picture, its flow and its depth, as in
# notebook [`14a_vision`](14a_vision.ipynb). So the *tower* of this base feels optic flow, as an encoder trained on video does;
# but no word for any motion occurs in its training, and how far that leaves it from answering 4D questions is measured.

# %%
#| export
def name_ids(tokenizer) -> torch.Tensor:
    "Token ids (names,) of NAMES with a leading blank; InputError if the tokenizer splits one."
    ids = [tokenizer(f' {name}', add_special_tokens=False).input_ids for name in NAMES]
    split = [name for name, found in zip(NAMES, ids) if len(found) != 1]
    if split: raise InputError(f'the tokenizer splits {split[0]!r}; train it on corpus()')
    return torch.tensor(ids)[:, 0]

def readout_loss(told: torch.Tensor, truth: torch.Tensor, columns: int, rows: int) -> torch.Tensor:
    "Place, flow and log depth read from tokens: told (N, columns + rows + 3) against truth (N, 3) of pictures row by row."
    number = torch.arange(len(told)) % (columns * rows)
    place = cross_entropy(told[:, :columns], number % columns) + cross_entropy(told[:, columns:-3], number // columns)
    flow = smooth_l1_loss(told[:, -3:-1], truth[:, :2], beta=0.1)
    return 0.1 * place + 2 * flow + 0.3 * (told[:, -1] - truth[:, 2]).abs().mean()


# %%
#| export
def naming_loss(model, data: BaseClips, count: int, ids: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    "Loss of `count` pairs of neighbouring frames; `model.readout` is the linear layer that reads place, flow and depth."
    layout = layout_of(model)
    rows, columns = (side // layout.cell for side in data.frames.shape[2:4])
    clips, pairs = rng.integers(len(data.frames), size=count), rng.integers(data.frames.shape[1] // 2, size=count)
    chosen = list(zip(clips.tolist(), pairs.tolist()))
    seen = tower_tokens(model, [data.frames[clip, 2 * pair:2 * pair + 2] for clip, pair in chosen])
    names = [(cell_names(data.picture(clip, 2 * pair), layout) + cell_names(data.picture(clip, 2 * pair + 1), layout)) / 2 for clip, pair in chosen]
    truth = np.concatenate([data.truth[clip, rows * columns * pair:rows * columns * (pair + 1)] for clip, pair in chosen])
    loss = token_naming_loss(model, seen, torch.as_tensor(np.concatenate(names)), ids)
    return loss + readout_loss(model.readout(seen), torch.as_tensor(truth.astype(np.float32)), columns, rows)

def naming_step(model, data: BaseClips, count: int, ids: torch.Tensor, rng: np.random.Generator, part: int = 6) -> Iterator[torch.Tensor]:
    "The same in parts that fit a processor's cache; their sum is the loss of the step."
    for at in range(0, count, part):
        pairs = min(part, count - at)
        yield naming_loss(model, data, pairs, ids, rng) * pairs / count


# %% [markdown]
# ## Stage two: lessons
#
# A lesson is a still picture with captions and questions. Early lessons are mostly captions, every thing of the picture as "red
# ball", "ball red", or with its place, in random order: after "red" only one kind is right, after a place only one colour. The
# word that asks stands right before the word that answers, and a single step of attention finds it. Then come terse questions
# ("colour of the ball?"), and at last full ones in all forms, always with hints
# ([`22da_slideshows`](22da_slideshows.ipynb)). With full questions alone, whose asking word is many words away from the answer, the
# model stayed at naming *some* thing of the picture for 800 steps; with stages that began anew at full rate, each undid the one
# before it (`LOG.md`). So there is one stage, whose rate falls while its lessons grow longer. A last term keeps stage one alive.
# All is drawn afresh from (seed, stage, step), so a resumed run continues as if it had not been interrupted.

# %%
#| export
@dataclass(frozen=True)
class BasePlan:
    "Sizes of the two stages; all [ours]."
    clips: int = 6000
    naming_steps: int = 2600
    naming_pairs: int = 24           # pairs of frames per step of stage one
    lesson_steps: int = 1100
    pictures: int = 12               # per step of stage two; a third of it where a still fills a clip
    kept_pairs: int = 8              # pairs of frames that keep stage one alive in stage two
    naming_rate: float = 2e-3
    lesson_rate: float = 8e-4
    save_every: int = 50
    seed: int = 0

# until this share of stage two: captions per picture, questions, share of terse ones, their forms, share of steps with whole clips
LESSONS = ((0.22, 4, 1, 1.0, ('free',), 0.0), (0.42, 2, 6, 1.0, ('free',), 0.0), (0.65, 1, 8, 0.8, FORMS, 0.0),
           (0.85, 1, 7, 0.4, FORMS, 0.1), (1.0, 1, 7, 0.2, FORMS, 0.2))


# %%
#| export
def draw_lesson(model, tokenizer, data: BaseClips, lesson: tuple, pairs: int, preset: Preset,
                rng: np.random.Generator) -> tuple[ClipExample, PackedClip, np.ndarray]:
    "A still with its dialogues, packed, and the names (tokens, names) of its visual tokens."
    _, captions, questions, terse, forms, _ = lesson
    drawn = (data.picture(int(rng.integers(len(data.frames))), int(rng.integers(data.frames.shape[1]))) for _ in range(100))
    picture = next((found for found in drawn if found.things), None)
    if picture is None: raise InputError('base clips: a hundred pictures show nothing; simulate them with more objects')
    example, asked = slideshow([picture], pairs, questions, rng, 1 / preset.fps, forms, terse=terse)
    example = replace(example, dialogues=caption_dialogues(picture, rng, captions) + example.dialogues)
    layout = PatchLayout(preset.patch_size, preset.merge_size, preset.temporal_patch_size)
    return example, pack_lesson(model, tokenizer, example, [question.hint for question in asked]), np.tile(cell_names(picture, layout), (pairs, 1))

def lesson_step(model, tokenizer, data: BaseClips, progress: float, ids: torch.Tensor, plan: BasePlan, preset: Preset,
                rng: np.random.Generator, part: int = 3) -> Iterator[torch.Tensor]:
    "Losses whose sum is the mean over the dialogues of a batch, and half of the naming losses of the stills and of real pairs."
    lesson = next(found for found in LESSONS if progress < found[0])
    pairs, count = (data.frames.shape[1] // 2, max(plan.pictures // 3, 1)) if rng.random() < lesson[-1] else (1, plan.pictures)
    drawn = [draw_lesson(model, tokenizer, data, lesson, pairs, preset, rng) for _ in range(count)]
    dialogues = sum(len(example.dialogues) for example, _, _ in drawn)
    for at in range(0, count, part):
        examples, rows, names = zip(*drawn[at:at + part])
        batch = collate(model, list(rows), list(examples), tokenizer.pad_token_id)
        seen = visual_features(model, batch)
        said = packed_loss(model, replace(batch, features=seen, pixels=None)) / dialogues
        yield said + 0.5 * len(rows) / count * token_naming_loss(model, seen, torch.as_tensor(np.concatenate(names)), ids)
    for loss in naming_step(model, data, plan.kept_pairs, ids, rng): yield 0.5 * loss


# %% [markdown]
# ## The loop
#
# All stages share one loop. The optimisers start anew with each, since their statistics belong to another loss.

# %%
#| export
def _stage(model, step_losses, steps: int, rate: float, number: int, plan: BasePlan, out: Path, progress: bool) -> None:
    "Run one stage of the plan with its own optimisers, from its checkpoint if there is one."
    recipe = TrainPlan(steps=steps, learning_rate=rate, batch_clips=plan.pictures, seed=plan.seed)
    optimizers = make_optimizers(trainable(model), recipe.optimizer, recipe.learning_rate, recipe.weight_decay)
    state = load_checkpoint(out, model, optimizers, recipe) if out.exists() else TrainState()
    begin = time.perf_counter() - state.elapsed_s
    for step in tqdm(range(state.step, steps), out.name, initial=state.step, total=steps, disable=not progress):
        total = 0.0
        for loss in step_losses(np.random.default_rng([plan.seed, number, step]), step / steps):
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        share = schedule((step + 1) / (steps + 1), recipe.warmup)
        for optimizer in optimizers:
            for group in optimizer.param_groups: group['lr'] = group['initial_lr'] * share
            optimizer.step(); optimizer.zero_grad()
        state.step, state.elapsed_s = step + 1, time.perf_counter() - begin
        state.rows.append(dict(step=step + 1, loss=round(total, 5), rate=share, seconds=round(state.elapsed_s, 1), dialogues=plan.pictures))
        if state.step % plan.save_every == 0 or state.step == steps:
            save_checkpoint(out, model, optimizers, state, recipe)
            write_log(out.with_suffix('.csv'), state.rows)

def start_base(preset: Preset, tokenizer, frames: np.ndarray, seed: int = 0):
    "A new model whose attention begins as likeness and whose patches are whitened on clips (N, T, H, W, 3)."
    model = build_vlm(preset, tokenizer, seed)
    whiten_patch_embedding(model, frames)
    mimetic_start(model, seed=seed)
    return model


# %%
#| export
def share_spellings(model, tokenizer) -> None:
    "Let every name start the same, in place, whether it stands after a blank or begins an answer."
    words = bare_model(model).get_input_embeddings().weight
    alone = [tokenizer(name, add_special_tokens=False).input_ids[0] for name in NAMES]
    with torch.no_grad(): words[alone] = words[name_ids(tokenizer)]

def train_stages(model, tokenizer, data: BaseClips, plan: BasePlan, preset: Preset, out: Path, progress: bool = True) -> None:
    "Both stages, in place; `out` keeps a checkpoint and a log of each, and a second call goes on from them."
    ids, cell = name_ids(tokenizer), layout_of(model).cell
    places = sum(side // cell for side in data.frames.shape[2:4])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        model.readout = torch.nn.Linear(bare_model(model).config.text_config.hidden_size, places + 3)
    model.train()
    naming = lambda rng, progress: naming_step(model, data, plan.naming_pairs, ids, rng)
    _stage(model, naming, plan.naming_steps, plan.naming_rate, 0, plan, out / 'naming', progress)
    share_spellings(model, tokenizer)
    lessons = lambda rng, progress: lesson_step(model, tokenizer, data, progress, ids, plan, preset, rng)
    _stage(model, lessons, plan.lesson_steps, plan.lesson_rate, 1, plan, out / 'lessons', progress)
    del model.readout
    model.eval()


# %% [markdown]
# Half a minute of both stages, on a few pictures and at a smaller size, shows the loop at work:

# %%
short = BasePlan(naming_steps=16, naming_pairs=8, lesson_steps=20, pictures=6, kept_pairs=2, save_every=8)
student = start_base(small, tokenizer, few.frames)
train_stages(student, tokenizer, few, short, small, folder / 'run', progress=False)

# %%
logs = {stage: np.genfromtxt(folder / 'run' / f'{stage}.csv', delimiter=',', names=True) for stage in ('naming', 'lessons')}
figure, axes = plt.subplots(1, 2, figsize=(6, 2), layout='constrained')
for axis, (stage, log) in zip(axes, logs.items()):
    axis.plot(log['step'], log['loss'], color=PALETTE[0]); axis.set(xlabel='step', title=f'stage "{stage}"')
plt.show()
assert all(logs[stage]['loss'][-3:].mean() < logs[stage]['loss'][:3].mean() for stage in logs)

# %% [markdown]
# A run that was stopped goes on from its checkpoints; here it has nothing left to do and changes nothing:

# %%
twin = start_base(small, tokenizer, few.frames)
train_stages(twin, tokenizer, few, short, small, folder / 'run', progress=False)
assert all(torch.equal(a, b) for a, b in zip(student.state_dict().values(), twin.state_dict().values()))

# %% [markdown]
# What the tokens of one picture are to be called, and what they call themselves after so short a time: the background is learned
# first, since it is most of what there is.

# %%
ids, picture, layout = name_ids(tokenizer), few.picture(0, 0), layout_of(student)
with torch.no_grad(): seen = tower_tokens(student, [np.repeat(picture.frame[None], 2, 0)])
told = bare_model(student).lm_head(torch.nn.functional.rms_norm(seen, seen.shape[-1:]))[:, ids].softmax(-1).detach().numpy()
figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.5))
axes[0].imshow(picture.frame)
for axis, shares, title in zip(axes[1:], (cell_names(picture, layout), told), ('share of a thing: truth', 'told by the tokens')):
    axis.imshow(1 - shares[:, -1].reshape(8, 8), vmin=0, vmax=1); axis.set_title(title, fontsize=8)
for axis in axes: axis.axis('off')
plt.show()
assert told.shape == cell_names(picture, layout).shape and np.allclose(told.sum(1), 1, atol=1e-5)


# %% [markdown]
# ## What it knows
#
# Held-out pictures, questions of all kinds in the two closed forms and the free one, with and without the video.

# %%
#| export
def picture_rows(model, tokenizer, pictures: list[Picture], preset: Preset, seed: int = 0, questions: int = 12,
                 blind: bool = False, forms=FORMS, kinds=tuple(FACTS)) -> list[dict]:
    "Answers to questions on held-out pictures, each shown for a whole clip, in the rows that the scorer reads."
    rows, rng = [], np.random.default_rng(seed)
    for picture in tqdm(pictures, 'asking', disable=len(pictures) < 50):
        example, asked = slideshow([picture], preset.frames // preset.temporal_patch_size, questions, rng, 1 / preset.fps, forms, kinds)
        open_ended = replace(example, videos=() if blind else example.videos, dialogues=tuple(turns[:1] for turns in example.dialogues))
        closed = [k for k, question in enumerate(asked) if question.form != 'free']
        free = [k for k, question in enumerate(asked) if question.form == 'free']
        part = lambda chosen: replace(open_ended, dialogues=tuple(open_ended.dialogues[k] for k in chosen))
        said = {}
        if closed:
            for k, logits in zip(closed, answer_logits(model, tokenizer, [part(closed)])[0]):
                said[k] = pick(logits, tokenizer, tuple(LETTERS[:len(asked[k].choices)]) or ('Yes', 'No'))
        if free: said |= dict(zip(free, ask_packed(model, tokenizer, part(free), 12)))
        rows += [dict(id=f'{picture.name}-{k}', clip=picture.name, type=question.kind, category=question.form, choices=list(question.choices),
                      truth=question.answer, answer=said[k].strip(), correct=said[k].strip() == question.answer) for k, question in enumerate(asked)]
    return rows


# %%
#| export
def score_base(model, tokenizer, pictures: list[Picture], preset: Preset, seed: int = 0, blind: bool = False) -> dict:
    "Share of right answers per kind and form and over all, each with its number of questions."
    rows = picture_rows(model, tokenizer, pictures, preset, seed, blind=blind)
    groups = {'all': rows} | {f'{name} ({field})': [row for row in rows if row[field] == name]
                              for field in ('category', 'type') for name in sorted({row[field] for row in rows})}
    return {name: dict(percent=round(100 * float(np.mean([row['correct'] for row in found])), 1), questions=len(found))
            for name, found in groups.items()}

def train_base(out: Path | str, preset: Preset, plan: BasePlan = BasePlan(), progress: bool = True) -> dict:
    "Make the base checkpoint from nothing in out/model, with its run card and its scores; a second call goes on where it was."
    started, out = time.perf_counter(), Path(out)
    data = keep_base_clips(out, preset, plan.clips, plan.seed + 1000)
    tokenizer = train_tokenizer(corpus(preset, seed=plan.seed), preset.vocabulary)
    model = start_base(preset, tokenizer, data.frames[:48], plan.seed)
    train_stages(model, tokenizer, data, plan, preset, out / 'checkpoints', progress)
    held_out = [picture for clip in simulate_clips(200, plan.seed + 2000, preset) for picture in pictures_of(clip, (0,))]
    scores = dict(seeing=score_base(model, tokenizer, held_out, preset), blind=score_base(model, tokenizer, held_out, preset, blind=True))
    save_vlm(model, tokenizer, out / 'model', torch.float16)
    card = run_card('track4d train base', preset, plan.seed, started=started, plan=asdict(plan))
    write_json(out / 'result.json', dict(scores=scores, card=card))
    return scores


# %%
unseen = [picture for clip in simulate_clips(8, 777, small) for picture in pictures_of(clip, (0,))]
scores, blind = (score_base(student, tokenizer, unseen, small, blind=hidden) for hidden in (False, True))
parts = [name for name in scores if '(category)' in name]
figure, axis = plt.subplots(figsize=(7.5, 1.6))
for offset, (label, found) in enumerate({'with the picture': scores, 'without': blind}.items()):
    axis.barh([k + 0.35 * offset for k in range(len(parts))], [found[name]['percent'] for name in parts], 0.33, label=label,
              color=PALETTE[offset])
axis.set_yticks(range(len(parts)), [name.split(' ')[0] for name in parts]); axis.legend(fontsize=7)
axis.set_title('right answers in percent after half a minute of training: nothing yet', fontsize=8); plt.show()
assert all(found['all']['questions'] > 50 and 0 <= found['all']['percent'] <= 100 for found in (scores, blind))

# %% [markdown]
# ## How far this recipe has come
#
# `data_samples/base_tiny` (3 million weights, 6 MB) was made by this recipe in an hour and a quarter of one core; its run card says how.
# Of 2,400 questions on unseen pictures it answers 42.4 % (33.0 % with the video hidden), of free ones 46.5 % (12.9 %). Letters (32.1
# against 30.5 %) and yes or no (48.9 against 51.0 %) are guesses; all these numbers stand in its run card. **The goal of 90 % is not
# reached.** The base before it answers 40.9 % of the same questions: broader now (places, whole things), but worse at colours and kinds of
# things that are named (`LOG.md`). Below, its tokens are read by themselves: they know far more than the answers say.

# %%
from track4d_ref.storage import project_path
from track4d_ref.vlm import load_vlm
base, base_tokenizer = load_vlm(project_path('data_samples/base_tiny'))
fine = load_preset('tiny', ('patch_size=7',))
unseen = [picture for clip in simulate_clips(24, 4321, fine) for picture in pictures_of(clip, (0,))]
told = {hidden: picture_rows(base, base_tokenizer, unseen, fine, 1, 12, hidden, ('free',), ('color', 'kind', 'place')) for hidden in (False, True)}
shares = {hidden: [100 * np.mean([row['correct'] for row in rows if row['type'] == kind]) for kind in ('color', 'kind', 'place')]
          for hidden, rows in told.items()}
print({'seeing': [round(float(share)) for share in shares[False]], 'blind': [round(float(share)) for share in shares[True]]})

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 2.6), layout='constrained', width_ratios=(1, 1.4))
example, asked = slideshow(unseen[3:4], 1, 8, np.random.default_rng(2), forms=('free',), kinds=('color', 'kind', 'place'), modes=('caption',))
said = ask_packed(base, base_tokenizer, replace(example, dialogues=tuple(turns[:1] for turns in example.dialogues)), 8)
axes[0].imshow(unseen[3].frame); axes[0].axis('off')
axes[0].set_title('\n'.join(f'{question.prompt.splitlines()[0]} {answer.strip()} ({question.answer})' for question, answer in list(zip(asked, said))[:3]), fontsize=6, loc='left')
for offset, (hidden, values) in enumerate(shares.items()):
    axes[1].barh([k + 0.38 * offset for k in range(3)], values, 0.36, color=PALETTE[offset], label='video hidden' if hidden else 'seeing')
axes[1].set_yticks([0.2, 1.2, 2.2], ['colour', 'kind', 'place']); axes[1].legend(fontsize=7, ncol=2, loc='upper center', bbox_to_anchor=(0.5, -0.1))
axes[1].set_title('the shipped base on unseen pictures, free answers, percent right', fontsize=8); plt.show()
assert np.mean(shares[False]) > np.mean(shares[True]) + 15


# %% [markdown]
# Seeing against saying: what the tokens of cells that a thing fills by half or more call themselves, read through the word table.

# %%
def token_names(picture):
    "Told and true (colour, kind) numbers of every cell that is at least half a thing."
    with torch.no_grad(): seen = tower_tokens(base, [np.repeat(picture.frame[None], 2, 0)])
    told = (torch.nn.functional.rms_norm(seen, seen.shape[-1:]) @ base.get_output_embeddings().weight[name_ids(base_tokenizer)].T).detach().numpy()
    truth = cell_names(picture, layout_of(base))
    filled = truth[:, -1] <= 0.5
    return [[[part[:, :10].argmax(1), part[:, 10:16].argmax(1)] for part in (told[filled], truth[filled])]]

pairs = [found for picture in unseen for found in token_names(picture)]
told, truth = (np.concatenate([np.array(pair[side]) for pair in pairs], 1) for side in (0, 1))
known = 100 * (told == truth).mean(1)
print(f'{told.shape[1]} cells: colour {known[0]:.0f} %, kind {known[1]:.0f} %')
assert known[0] > shares[False][0] + 15 and known[1] > shares[False][1] + 15

# %% [markdown]
# ## What we proved
#
# * One tokenizer spells everything the project writes; the words for things are single tokens.
# * The losses fall, and the loop resumes to the same weights.

# %% [markdown]
# ## Try it
#
# 1. Leave out `mimetic_start` in `start_base`. How long does stage two stay at naming *some* thing?
# 2. Let names compete with the whole vocabulary in stage one. What becomes of the word "which"?
#
# <details><summary>Solutions</summary>
#
# 1. Build the model with `build_vlm` and `whiten_patch_embedding` only and compare the two `lessons.csv` logs.
# 2. In `token_naming_loss`, take the softmax over all rows of the table and pick the names afterwards. "which" goes where all words
#    go that are no name: their mean cosine grows to 0.83 in 2,600 steps (`LOG.md`).
#
# </details>
