# %% [markdown]
# # Spatial chains of thought
# > Five steps from question to letter, with the places of camera and object written down at both ends.

# %%
#| default_exp spatial_cot

# %% [markdown]
# #| export
# A trace is `<thinking> … </thinking><answer>LETTER</answer>`; the thinking holds two Spatial States, each with one line
# `Camera Center: [x, y, z]` and one `Object Center: [x, y, z]`, metres, or `null` where there is none.

# %% [markdown]
# * **What** reasoning traces for the cold start, written from the truth by templates, and candidates that make mistakes
# * **Why** GRPO can only reward what the model already does sometimes; the cold start shows it the form
# * **Paper** MLLM-4D §5.2: five steps, published output shape, K = 3 chains; Gemini wrote theirs, templates write **[ours]**
# * **Needs** `relations`, `measurements`
# * **Time** 20 seconds
# * **Before this** `10_relations`

# %%
#| export
import numpy as np

from track4d_ref.measurements import Measured, measure
from track4d_ref.relations import NUMERIC, UNSEEN, RelationQuestion
from track4d_ref.scene_points import ScenePoints
from track4d_ref.templates import LETTERS

# %%
import matplotlib.pyplot as plt
import torch

from track4d_ref.presets import load_preset
from track4d_ref.relations import KINDS, ask_relations
from track4d_ref.rewards import keep_chains, st_reward
from track4d_ref.scene_points import points_from_depth
from track4d_ref.simulator import simulate_clip, simulate_clips
from track4d_ref.viz import MUTED, PALETTE, frame_strip, object_colors, tag, use_style

# %%
use_style()
torch.set_num_threads(1)

# %% [markdown]
# ## Prompt and solution
#
# The prompt asks for the shape; the solution is what the reward will read: the letter and the true centres at both ends,
# in the released record's form (a list with one dictionary).

# %%
#| export
COT_INSTRUCTION = ('Think in <thinking></thinking>: state Camera Center and Object Center as [x, y, z] in metres, or null, for the '
                   'start frame and the end frame. Then give the letter in <answer></answer>.')

def cot_prompt(question: RelationQuestion) -> str:
    "Question and lettered options with the instruction to reason in the published shape."
    return '\n'.join([*question.prompt.split('\n')[:-1], COT_INSTRUCTION])


# %%
#| export
def solution(question: RelationQuestion) -> list[dict]:
    "What the reward of notebook 23 needs: letter and true centres, start and end."
    return [dict(answer=question.answer, camera_center=question.targets['camera_center'], object_center=question.targets['object_center'])]


# %%
preset = load_preset('tiny')
clip = simulate_clip(11, preset, domain='open', camera_program='forward', objects=3, height=112, width=140, roll_rad=0.07)
scene = points_from_depth(clip)
questions = ask_relations(scene, np.random.default_rng(3), per_kind=2)
question = next(q for q in questions if q.type == 'object_camera_side')
print(cot_prompt(question), '\n\n', solution(question))
assert cot_prompt(question).count('<answer>') == 1 and solution(question)[0]['answer'] in LETTERS


# %% [markdown]
# ## What can be seen
#
# The prose between the states says what a careful viewer would notice, and no numbers: where in the picture the object
# stands, whether it grows or shrinks there, whether the view travels. The paper's writer was told not to mention that it
# has sensor values; ours has no place to mention them. All words come from measured pixels.

# %%
#| export
def picture_place(uv_px: np.ndarray, width: int, height: int) -> str:
    "Ninths of the picture in words."
    column = ('on the left', 'in the middle', 'on the right')[int(np.clip(3 * uv_px[0] / width, 0, 2))]
    row = ('in the upper part', 'at half height', 'in the lower part')[int(np.clip(3 * uv_px[1] / height, 0, 2))]
    return f'{column}, {row}'


# %%
#| export
def visual_cue(m: Measured, row: int | None, i: int, j: int) -> str:
    "What changes between two frames: the object's size in the picture and the view itself."
    travelled = np.linalg.norm(m.camera_m[j] - m.camera_m[i]) > 0.03 * m.scale_m[i]
    view = 'Near things slide past far ones, so the camera travels.' if travelled else 'The background keeps its parallax, so the camera stays.'
    if row is None: return view
    before, after = m.visible_px[row, [i, j]]
    if min(before, after) == 0: return f'It {"leaves" if after == 0 else "enters"} the picture in between. {view}'
    grown = np.sqrt(after / before)
    size = 'It grows in the picture.' if grown > 1.1 else 'It shrinks in the picture.' if grown < 0.9 else 'It keeps its size in the picture.'
    return f'{size} {view}'


# %%
m = measure(clip)
assert picture_place(np.array([10, 100]), 140, 112) == 'on the left, in the lower part'
assert picture_place(np.array([70.0, 56.0]), 140, 112) == 'in the middle, at half height'
for row, item in enumerate(clip.objects): print(item.caption, '·', picture_place(m.uv_px[row, 0], 140, 112), '·', visual_cue(m, row, 0, 7))

# %% [markdown]
# ## Five steps
#
# (1) what is asked and the two frames; (2) the start frame and its Spatial State; (3) how things go on, and by which cues;
# (4) the end frame, its state, a check; (5) the conclusion. Each step has several wordings, drawn by the generator.

# %%
#| export
GOALS = ('The question compares frame {i} with frame {j} and is about {a}.', 'Two frames matter, {i} and {j}; the subject is {a}.',
         'To answer I follow {a} from frame {i} to frame {j}.')
PROGRESS = ('On the way from one to the other: {cue}', 'Between the two frames: {cue}', 'Then time goes on. {cue}')
CHECKS = ('This fits what is seen on the way.', 'Both states agree with the cues above.', 'The change of the state matches the picture.')
ENDINGS = ('From the two states the answer is "{answer}", option {letter}.', 'Taken together: "{answer}". That is option {letter}.',
           'Comparing start and end gives "{answer}", which is {letter}.')


# %%
#| export
def centre_text(xyz_m, decimals: int = 4) -> str:
    "`[x, y, z]` with fixed decimals, or `null`."
    return 'null' if xyz_m is None else '[' + ', '.join(f'{value + 0.0:.{decimals}f}' for value in np.round(xyz_m, decimals)) + ']'


# %%
#| export
def _frame_text(m: Measured, row: int | None, frame: int, name: str, camera_m, object_m, decimals: int) -> str:
    view = m.view
    if row is None: shown = 'The whole view is taken as a mark for where the camera is.'
    elif object_m is None: shown = f'{name} is not in the picture.'
    else: shown = f'{name} is {picture_place(m.uv_px[row, frame], view.width, view.height)}.'
    return (f'Frame {frame}: {shown}\n**Spatial State (frame {frame}):**\n- Camera Center: {centre_text(camera_m, decimals)}\n'
            f'- Object Center: {centre_text(object_m, decimals)}')


# %%
#| export
def write_trace(question: RelationQuestion, m: Measured, rng: np.random.Generator, letter: str | None = None,
                centres: dict | None = None, decimals: int = 4) -> str:
    "A five-step trace (MLLM-4D §5.2) of a question on a measured video; `letter` and `centres` replace the true ones."
    centres, letter = centres or question.targets, letter or question.answer
    (i, j), pick = question.targets['pair'], lambda texts: texts[int(rng.integers(len(texts)))]
    ids = [item.id for item in m.clip.objects]
    row = ids.index(question.references[0]['object']) if question.references else None
    name = 'the camera' if row is None else f'the {m.clip.objects[row].caption}'
    ends = [_frame_text(m, row, frame, name[:1].upper() + name[1:], centres['camera_center'][k], centres['object_center'][k], decimals)
            for k, frame in enumerate((i, j))]
    answer = question.choices[LETTERS.index(letter)] + (' m' if question.type in NUMERIC else '')
    steps = (pick(GOALS).format(i=i, j=j, a=name), ends[0], pick(PROGRESS).format(cue=visual_cue(m, row, i, j)),
             f'{ends[1]}\n{pick(CHECKS)}', pick(ENDINGS).format(answer=answer, letter=letter))
    return '<thinking>\n' + '\n'.join(steps) + f'\n</thinking><answer>{letter}</answer>'


# %%
trace = write_trace(question, m, np.random.default_rng(0))
print(trace)
for preset_name in ('paper', 'code'):
    reward = st_reward(trace, solution(question), preset_name)
    print(preset_name, reward)
    assert abs(reward.total - 1) < 1e-9

# %% [markdown]
# Every trace written from the truth earns the full reward of preset `paper`, whatever the kind of question. Preset `code`
# has a surprise: its format check wants a *bracket* after `Object Center:`, so an honest `null` on a question about the
# camera alone costs 0.08, and no truthful trace of the published shape can avoid it.

# %%
for q in questions:
    text = write_trace(q, m, np.random.default_rng(1))
    assert abs(st_reward(text, solution(q), 'paper').total - 1) < 1e-9 and text.count('Camera Center:') == 2
    assert abs(st_reward(text, solution(q), 'code').total - (1 if q.references else 0.92)) < 1e-9
figure = frame_strip(clip, question.targets['pair'], width_in=6, draw=lambda axis, frame: tag(
    axis, m.uv_px[[o.id for o in clip.objects].index(question.references[0]['object']), frame].clip(22, 120), f'frame {frame}', PALETTE[1]))
figure.supxlabel(trace.split('\n')[-2], fontsize=8, x=0.01, ha='left'); plt.show()

# %% [markdown]
# Rounding costs reward. Four decimals are the published ones; a tiny model writes digits one by one and would rather have
# fewer. With one decimal the loss is at most $1-e^{-0.09}$ of the spatial part.

# %%
table = {d: np.mean([st_reward(write_trace(q, m, np.random.default_rng(1), decimals=d), solution(q)).total for q in questions]) for d in (0, 1, 2, 4)}
words = {d: np.mean([len(write_trace(q, m, np.random.default_rng(1), decimals=d)) for q in questions]) for d in table}
figure, axis = plt.subplots(figsize=(4.8, 2.3))
axis.plot(list(words.values()), list(table.values()), 'o-')
for d in table: axis.annotate(f'{d} decimals', (words[d], table[d]), textcoords='offset points', xytext=(4, -12), fontsize=8)
axis.set(xlabel='characters per trace', ylabel='reward of the truth', ylim=(0.85, 1.01)); plt.show()
assert table[4] > 0.9999 and table[1] > 0.97 and table[0] < table[1] < table[2]


# %% [markdown]
# ## A writer that errs, and the filter
#
# The paper asks Gemini for K = 3 chains per question, scores them with the reward, and keeps a chain if it is the best of
# its question and reaches the mean best of its *scenario* (`keep_chains`, notebook 23; at most one chain per item). Per
# scenario, because harder scenarios would otherwise vanish from the cold start.
#
# Templates do not err, so we let them. **[ours]** Each candidate draws how careless its writer is: centres are off by a
# normal error of that size, a wrong letter becomes likelier, and now and then a centre is forgotten.

# %%
#| export
def candidate_traces(question: RelationQuestion, m: Measured, rng: np.random.Generator, count: int = 3, error_m: float = 0.3,
                     wrong: float = 0.25, decimals: int = 4) -> list[str]:
    "`count` traces by a fallible writer; `error_m` and `wrong` are the mean size of its slips."
    traces = []
    for _ in range(count):
        careless = rng.exponential(1.0)
        slip = lambda xyz_m: None if xyz_m is None or rng.random() < 0.05 * careless else xyz_m + rng.normal(0, error_m * careless, 3)
        centres = {name: [slip(xyz_m) for xyz_m in question.targets[name]] for name in ('camera_center', 'object_center')}
        others = [letter for letter in LETTERS[:len(question.choices)] if letter != question.answer]
        letter = others[int(rng.integers(len(others)))] if rng.random() < wrong * careless else question.answer
        traces.append(write_trace(question, m, rng, letter, centres, decimals))
    return traces


# %%
rng, scored, kept_texts = np.random.default_rng(0), {}, {}
for number, sample in enumerate(simulate_clips(6, 9, preset, height=56, width=84)):
    measured = measure(sample)
    for k, q in enumerate(ask_relations(points_from_depth(sample), rng, per_kind=4, moving_only=False)):
        texts = candidate_traces(q, measured, rng)
        scored[f'{number}-{k}'] = (q.type, [st_reward(text, solution(q)).total for text in texts])
        kept_texts[f'{number}-{k}'] = texts
kept = keep_chains(scored)
print(f'{len(scored)} questions, {3 * len(scored)} chains, {len(kept)} kept ({len(kept) / len(scored):.0%}; the paper: 7,000 of 14,000)')
assert 0.35 < len(kept) / len(scored) < 0.8 and all(0 <= index < 3 for index in kept.values())

# %%
figure, axis = plt.subplots(figsize=(7, 3))
for place, kind in enumerate(KINDS):
    best = np.array([max(values) for name, (scenario, values) in scored.items() if scenario == kind])
    if not len(best): continue
    chosen = best >= best.mean()
    jitter = place + 0.25 * np.sin(7 * np.arange(len(best)))
    axis.scatter(jitter, best, s=14, c=np.where(chosen, PALETTE[2], '#CCCCCC')); axis.hlines(best.mean(), place - 0.35, place + 0.35, color=PALETTE[1])
axis.set(xticks=range(7), xticklabels=[kind.replace('_', '\n') for kind in KINDS], ylabel='best of three', title='kept (green) reach the mean of their scenario'); plt.show()
for name, index in kept.items():
    scenario, values = scored[name]
    assert values[index] == max(values) >= np.mean([max(v) for s, v in scored.values() if s == scenario]) - 1e-12

# %% [markdown]
# What to notice: the threshold differs from scenario to scenario, about half pass in each, and a kept chain has almost
# always the right letter. The cold start is not the truth; it is the better half of what a fallible writer produced.

# %% [markdown]
# ## What we proved
#
# * traces from the truth earn the whole reward of preset `paper`; preset `code` withholds 0.08 where there is no object;
# * fewer decimals shorten a trace and cost little reward;
# * the filter keeps at most one chain per question, each at least as good as the mean best of its scenario.

# %% [markdown]
# ## Try it
#
# 1. Use one threshold for all scenarios. Which kinds lose chains?
# 2. Set `count=1` and `count=12`. How does the share that is kept change, and why so little?
# 3. Write a trace whose prose contradicts its states. What does the reward say?
#
# <details><summary>Solutions</summary>
#
# 1. The kinds whose natural scale is small lose them: a threshold in metres that suits camera paths silences
#    centimetres between objects. That is why the thresholds stand per scenario.
# 2. Little: the filter asks whether the states agree with the answer, and most that fail, fail by geometry, not by
#    the number of states. Draw the share over `count`.
# 3. The reward reads the states and the answer, not the prose: it is satisfied. Hole by hole this is `23_rewards`'
#    subject; a checker of prose would be a second language model.
#
# </details>
