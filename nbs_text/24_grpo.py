# %% [markdown]
# # GRPO
# > Sample a group of answers, reward each, and make the better-than-average ones likelier: all of it on one screen.

# %%
#| default_exp grpo

# %% [markdown]
# #| export
# Rewards and advantages are (prompts, G); log-probabilities and masks (prompts · G, longest), completions of one prompt next
# to each other. A reward is a function (text, solution) → number. A reference is None, a frozen model, or a function that
# returns a context manager inside which the model *is* the reference, such as an adapter's `disable_adapter`.

# %% [markdown]
# * **What** group-relative policy optimisation: advantage, clipped objective, KL to a reference, the loop, and its resume
# * **Why** it is MLLM-4D's last stage, and the one that most trainers cannot run on video
# * **Paper** MLLM-4D §5.3 and its released script; details neither states follow the framework's conventions
# * **Needs** `rollouts`, `packing`
# * **Time** 50 seconds
# * **Before this** `23_rewards`, `23a_rollouts`

# %%
#| export
import contextlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm

# %%
#| export
from track4d_ref.packing import ClipExample
from track4d_ref.rollouts import Group, completion_logps, rollouts
from track4d_ref.storage import InputError, atomic_folder, read_json, write_json

# %%
import copy
import tempfile
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np

# %%
from track4d_ref.packing import collate, pack, packed_loss
from track4d_ref.patches import Video
from track4d_ref.presets import load_preset
from track4d_ref.tokens import train_tokenizer
from track4d_ref.viz import INK, MUTED, PALETTE, use_style
from track4d_ref.vlm import build_vlm

use_style()
torch.set_num_threads(1)                             # so small a model gains nothing from a second thread


# %% [markdown]
# ## The algorithm in seven sentences
#
# 1. Take a question and sample $G$ answers from the model.
# 2. Give each a reward $r_i$ by a function that reads text only.
# 3. Subtract the group's mean and divide by its standard deviation: the advantage $A_i$.
# 4. Compute how likely each sampled word is now, compared with when it was sampled: the ratio $\rho$.
# 5. Raise $\min(\rho A,\ \mathrm{clip}(\rho, 1-\varepsilon, 1+\varepsilon)A)$, averaged over words, then over answers.
# 6. Pay $\beta$ times a KL estimate for moving away from the reference.
# 7. Step, and start again with fresh samples.
#
# What the paper says and what its script does are not the same. Both stand here side by side; `ours` is for the tiny model.
# Values that neither states are the defaults of the framework the script calls, or **[ours]**.

# %%
#| export
@dataclass(frozen=True)
class GrpoSettings:
    "Numbers of a GRPO run; `words` limits a completion, `inner` repeats the update on the same samples."
    group: int = 8                  # [ours] for the tiny model
    learning_rate: float = 1e-3     # [ours]
    kl: float = 0.02                # [ours]
    clip: float = 0.2               # symbol only in the paper; the framework's default
    temperature: float = 1.0
    top_p: float = 1.0              # the framework's default was 0.9 with top-k 50 [unconfirmed]
    words: int = 64                 # [ours]
    prompts_per_step: int = 4       # [ours]
    steps: int = 100                # [ours]
    warmup: float = 0.0             # share of the steps
    inner: int = 1
    gradient_clip: float = 1.0      # [ours]
    seed: int = 0


# %%
#| export
PUBLISHED = {'paper': GrpoSettings(group=12, learning_rate=5e-5, kl=0.1, words=4096, prompts_per_step=2, steps=15000),
             'script': GrpoSettings(group=12, learning_rate=1e-4, kl=0.001, words=4096, prompts_per_step=2, steps=15000,
                                    warmup=0.001)}

# %%
columns = {'ours, tiny': GrpoSettings(), **PUBLISHED}
print(f'{"":18s}' + ''.join(f'{name:>14s}' for name in columns))
for field in asdict(GrpoSettings()): print(f'{field:18s}' + ''.join(f'{getattr(settings, field):>14}' for settings in columns.values()))
differ = [field for field in asdict(GrpoSettings()) if getattr(PUBLISHED['paper'], field) != getattr(PUBLISHED['script'], field)]
print('paper and script differ in', differ)
assert differ == ['learning_rate', 'kl', 'warmup']


# %% [markdown]
# ## Advantage
#
# $A_i=(r_i-\bar r)/(\mathrm{std}\,r+10^{-4})$ within each group, with the standard deviation of a sample ($G-1$), as the
# framework has it. A group whose answers all got the same reward teaches nothing: its advantages are zero. Such groups are
# the usual reason for *"my loss is 0"*, so they are counted and shown at every step.

# %%
#| export
def group_advantages(rewards: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    "Advantages (prompts, G) of rewards (prompts, G), and which groups (prompts,) have any spread."
    if rewards.ndim != 2 or rewards.shape[1] < 2:
        raise InputError(f'rewards of shape {tuple(rewards.shape)}: GRPO compares answers; use groups of at least 2')
    centred = rewards - rewards.mean(1, keepdim=True)
    spread = rewards.std(1, keepdim=True)
    return centred / (spread + 1e-4), spread[:, 0] > 1e-6


# %%
rewards = torch.tensor([[0.9, 0.4, 0.4, 0.1, 0.2], [0.3, 0.3, 0.3, 0.3, 0.3], [0.5, 0.52, 0.5, 0.5, 0.5]])
advantages, alive = group_advantages(rewards)
figure, axes = plt.subplots(1, 2, figsize=(7, 2.3))
for axis, values, title in zip(axes, (rewards, advantages), ('rewards', 'advantages')):
    for k, color in enumerate(PALETTE[:3]): axis.bar(np.arange(5) + 0.26 * (k - 1), values[k], 0.25, color=color, label=f'group {k}')
    axis.axhline(0, color=MUTED, linewidth=0.8); axis.set(title=title, xlabel='answer')
axes[0].legend(fontsize=7, ncols=3, loc='upper right'); axes[0].set_ylim(0, 1.2); plt.show()
assert advantages.sum(1).abs().max() < 1e-5 and alive.tolist() == [True, False, True]


# %% [markdown]
# Notice group 2: a difference of 0.02 becomes an advantage as large as that of group 0's 0.5. Normalising makes every
# group with spread equally loud, the noise of a nearly solved question included.

# %% [markdown]
# ## Objective
#
# Per word, with $\rho=\exp(\log\pi-\log\pi_{old})$ and $d=\log\pi_{ref}-\log\pi$:
#
# $$\ell=-\min\big(\rho A,\ \mathrm{clip}(\rho,1-\varepsilon,1+\varepsilon)A\big)+\beta\,\underbrace{(e^{d}-d-1)}_{k_3}$$
#
# averaged over the words of each answer, then over answers. $k_3$ is never negative, and its mean under $\pi$ is the KL.
#
# TRL 1.16 computes the same with `loss_type='grpo'` and `use_bias_correction_kl=False`. With its default `True` it multiplies
# $k_3$ by $\rho$: equal in value while $\rho=1$, another gradient, and another value as soon as the weights have moved.
# The paper writes the plain divergence, so we keep the plain estimator; the test compares like with like.

# %%
#| export
def grpo_loss(new: torch.Tensor, old: torch.Tensor, reference: torch.Tensor | None, advantages: torch.Tensor,
              mask: torch.Tensor, clip: float = 0.2, kl: float = 0.0) -> tuple[torch.Tensor, dict[str, float]]:
    "Loss and what to watch, from log-probabilities (N, S) of the sampled words and advantages (N,)."
    ratio, gain = torch.exp(new - old), advantages[:, None]
    clipped = ratio.clamp(1 - clip, 1 + clip)
    word_loss = -torch.minimum(ratio * gain, clipped * gain)
    divergence = torch.zeros_like(new) if reference is None else torch.exp(reference - new) - (reference - new) - 1
    mean = lambda values: ((values * mask).sum(1) / mask.sum(1).clamp(min=1)).mean()
    cut = (clipped * gain < ratio * gain).to(new.dtype)
    watch = dict(kl=divergence, ratio=ratio, clipped=cut)
    return mean(word_loss + kl * divergence), {name: mean(values).item() for name, values in watch.items()}


# %%
def by_double_loop(new, old, reference, advantages, mask, clip, kl):
    total = 0.0
    for i in range(len(new)):
        answer, words = 0.0, 0
        for s in range(new.shape[1]):
            if not mask[i, s]: continue
            ratio = torch.exp(new[i, s] - old[i, s])
            gain = min(ratio * advantages[i], max(min(ratio, torch.tensor(1 + clip)), torch.tensor(1 - clip)) * advantages[i])
            d = reference[i, s] - new[i, s]
            answer, words = answer - gain + kl * (torch.exp(d) - d - 1), words + 1
        total = total + answer / words
    return total / len(new)


# %%
draw = torch.Generator().manual_seed(0)
new, old, reference = (-torch.rand(6, 9, generator=draw).double() * 3 for _ in range(3))
mask = (torch.arange(9) < torch.tensor([9, 4, 1, 7, 8, 2])[:, None]).double()
gains = torch.randn(6, generator=draw).double()
ours, theirs = grpo_loss(new, old, reference, gains, mask, 0.2, 0.05)[0], by_double_loop(new, old, reference, gains, mask, 0.2, 0.05)
print(float(ours), float(theirs))
assert torch.isclose(ours, theirs, rtol=1e-12)

# %%
figure, axes = plt.subplots(1, 2, figsize=(7.4, 2.5))
ratio = torch.linspace(0.4, 1.8, 200)
for gain, color in ((1.0, PALETTE[2]), (-1.0, PALETTE[1])):
    axes[0].plot(ratio, torch.minimum(ratio * gain, ratio.clamp(0.8, 1.2) * gain), color=color, label=f'A = {gain:+.0f}')
axes[0].axvline(1, color=MUTED, linewidth=0.8); axes[0].set(xlabel='ratio', title='what is raised'); axes[0].legend()
d = torch.linspace(-2, 2, 200)
axes[1].plot(d, d.exp() - d - 1, label='$k_3$'); axes[1].plot(d, -d, '--', color=MUTED, label='naive: $-d$'); axes[1].set(xlabel=r'$d = \log\pi_{ref} - \log\pi$', title='price of moving away'); axes[1].legend(); plt.show()
share, other = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.5, 0.3])
d = (other / share).log()
assert torch.isclose((share * (d.exp() - d - 1)).sum(), (share * (share / other).log()).sum())   # the mean of k3 is the KL


# %% [markdown]
# ## One step
#
# This is all of it. The old log-probabilities are those of the first inner pass itself: the samples are fresh, so nothing
# else needs to be computed. `rollouts` and `completion_logps` read each video once per group.

# %%
#| export
@dataclass(frozen=True)
class Task:
    "A prompt (one dialogue that ends with the user) and what its reward needs to know."
    prompt: ClipExample
    solution: object

Reward = Callable[[str, object], float]


# %%
#| export
def reference_logps(model, tokenizer, groups: list[Group], reference, temperature: float, states=None) -> torch.Tensor | None:
    "Log-probabilities under the reference, without gradients."
    if reference is None: return None
    own = isinstance(reference, torch.nn.Module)
    with torch.no_grad(), contextlib.nullcontext() if own else reference():
        return completion_logps(reference if own else model, tokenizer, groups, temperature, states)[0]


# %%
#| export
def grpo_step(model, tokenizer, tasks: list[Task], reward: Reward, optimizer, settings: GrpoSettings,
              generator: torch.Generator, reference=None, states=None) -> dict[str, float]:
    "Sample, reward, update; what happened, as numbers."
    groups = rollouts(model, tokenizer, [task.prompt for task in tasks], settings.group, settings.words, generator,
                      settings.temperature, settings.top_p, states)
    rewards = torch.tensor([[reward(text, task.solution) for text in group.texts] for task, group in zip(tasks, groups)])
    advantages, alive = group_advantages(rewards)
    frozen = reference_logps(model, tokenizer, groups, reference, settings.temperature, states) if settings.kl else None
    old = None
    for _ in range(settings.inner):
        new, mask = completion_logps(model, tokenizer, groups, settings.temperature, states)
        old = new.detach() if old is None else old
        loss, watch = grpo_loss(new, old, frozen, advantages.flatten().to(new), mask, settings.clip, settings.kl)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(_trainable(model).values(), settings.gradient_clip)
        optimizer.step()
    finished = sum(sum(group.finished) for group in groups) / len(mask)
    return dict(reward=rewards.mean().item(), spread=rewards.std(1).mean().item(), flat_groups=int((~alive).sum()),
                loss=loss.item(), gradient=float(norm), words=mask.sum().item() / len(mask), finished=finished, **watch)


# %%
#| export
def _trainable(model) -> dict[str, torch.nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


# %% [markdown]
# A tiny world for the proofs: small films, a small model, first taught (a few supervised steps, notebook 20) to answer with
# a letter and to guess which. The reward is 1 for the right letter. In this world the right letter is C four times out of
# five, which the guesser does not know yet.

# %%
preset = load_preset('tiny', ('frames=2', 'resolution=56', 'text_layers=2', 'text_width=96', 'vision_layers=1', 'vision_width=48'))
corpus = ['Which way does the red ball move? A. left B. right C. up D. down Answer with the letter.'] * 9
tokenizer, rng = train_tokenizer(corpus, 300), np.random.default_rng(0)
film = lambda name: Video(name, rng.integers(0, 256, (2, 56, 56, 3), dtype=np.uint8), 0.25)
question = {'role': 'user', 'content': corpus[0]}
letters = rng.choice(list('ABCD'), 60, p=[0.1, 0.05, 0.8, 0.05])
tasks = [Task(ClipExample(f'film {k}', (film(f'film {k}'),), ((question,),)), str(letter)) for k, letter in enumerate(letters)]
right_letter = lambda text, solution: float(text == solution)


# %%
def guesser(seed: int, steps: int = 25):
    "A model that answers with a random letter and stops."
    model, rng = build_vlm(preset, tokenizer, seed=seed), np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(steps):
        answers = tuple((question, {'role': 'assistant', 'content': letter}) for letter in 'ABCD')
        example = ClipExample('guess', (film('guess'),), answers)
        optimizer.zero_grad(); packed_loss(model, collate(model, [pack(model, tokenizer, example)], [example])).backward(); optimizer.step()
    return model.requires_grad_(True)


# %%
start = guesser(0)
sampled = rollouts(start, tokenizer, [tasks[0].prompt], 200, 4, torch.Generator().manual_seed(0))[0]
print({text: sampled.texts.count(text) for text in sorted(set(sampled.texts))})
assert min(sampled.texts.count(letter) for letter in 'ABCD') > 10

# %% [markdown]
# ## The loss is zero, and that is right
#
# On the first pass $\rho=1$ everywhere, whatever the weights; the reference is the model itself, so $k_3=0$. What remains
# is $-\frac1G\sum A_i=0$. **The loss of GRPO is no measure of progress.** Its gradient is not zero: each word pulls with the
# weight of its answer's advantage.

# %%
groups = rollouts(start, tokenizer, [task.prompt for task in tasks[:3]], 8, 4, torch.Generator().manual_seed(1))
rewards = torch.tensor([[right_letter(text, task.solution) for text in group.texts] for task, group in zip(tasks, groups)])
advantages, alive = group_advantages(rewards)
new, mask = completion_logps(start, tokenizer, groups)
loss, watch = grpo_loss(new, new.detach(), reference_logps(start, tokenizer, groups, copy.deepcopy(start), 1.0), advantages.flatten(), mask, kl=0.1)
start.zero_grad(); loss.backward()
norm = torch.nn.utils.clip_grad_norm_(start.parameters(), float('inf'))
print(f'loss {loss.item():.1e}, gradient {norm:.3f}, {watch}, groups without spread: {int((~alive).sum())} of {len(alive)}')
assert watch['ratio'] == 1.0 and abs(loss.item()) < 1e-6 and abs(watch['kl']) < 1e-9 and norm > 0.01 and alive.any()


# %% [markdown]
# Packed or separate, the loss and all gradients agree: here each completion gets a group, and so a row, of its own.

# %%
def update(groups):
    new, mask = completion_logps(start, tokenizer, groups)
    old = new.detach() - 0.1 * torch.sin(torch.arange(len(new)))[:, None]        # as if the weights had moved since
    loss = grpo_loss(new, old, new.detach() - 0.2, advantages.flatten(), mask, kl=0.1)[0]
    start.zero_grad(); loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in start.parameters()])


# %%
single = [replace(g, completions=(c,), texts=(t,), finished=(f,)) for g in groups for c, t, f in zip(g.completions, g.texts, g.finished)]
(loss_packed, packed), (loss_single, apart) = update(groups), update(single)
print(f'{loss_packed:.8f} {loss_single:.8f}, gradients differ by {float((packed - apart).abs().max() / apart.abs().max()):.1e} of the largest')
assert abs(loss_packed - loss_single) < 1e-6 and float((packed - apart).abs().max() / apart.abs().max()) < 1e-5


# %% [markdown]
# ## The loop, and its resume
#
# Step $k$ draws its tasks and its random numbers from $(\text{seed}, k)$ alone, so a resumed run needs no random state,
# only weights, the optimiser's moments and the log. They are written together, whole or not at all.

# %%
#| export
def _step_tasks(tasks: list[Task], settings: GrpoSettings, step: int) -> list[Task]:
    "The tasks of a step: epochs of all tasks, each in its own random order."
    chosen = []
    for place in range(step * settings.prompts_per_step, (step + 1) * settings.prompts_per_step):
        epoch, index = divmod(place, len(tasks))
        order = torch.randperm(len(tasks), generator=torch.Generator().manual_seed(settings.seed * 1_000_003 + epoch))
        chosen.append(tasks[order[index]])
    return chosen


# %%
#| export
def save_run(folder: Path | str, model, optimizer, settings: GrpoSettings, log: list[dict]) -> None:
    "Trainable weights, moments of AdamW, settings and log, whole or not at all."
    tensors = {}
    for name, parameter in _trainable(model).items():
        tensors[f'weight/{name}'] = parameter.detach()
        for key, value in optimizer.state.get(parameter, {}).items(): tensors[f'{key}/{name}'] = value
    with atomic_folder(folder) as partial:
        save_file({name: value.cpu().clone().contiguous() for name, value in tensors.items()}, partial / 'run.safetensors')
        write_json(partial / 'run.json', dict(settings=asdict(settings), log=log))


# %%
#| export
def load_run(folder: Path | str, model, optimizer, settings: GrpoSettings) -> list[dict]:
    "Put a saved run back into model and optimiser; its log. InputError if it was made with other settings."
    folder = Path(folder)
    saved = read_json(folder / 'run.json')
    other = [key for key, value in asdict(settings).items() if key != 'steps' and saved['settings'].get(key) != value]
    if other: raise InputError(f'{folder}: was made with another {other[0]}; use its value or another folder')
    tensors = load_file(folder / 'run.safetensors')
    for name, parameter in _trainable(model).items():
        if f'weight/{name}' not in tensors: raise InputError(f'{folder}: has no weight {name}; this is another model')
        parameter.data.copy_(tensors[f'weight/{name}'])
        place = dict(step='cpu', exp_avg=parameter.device, exp_avg_sq=parameter.device)
        moments = {key: tensors[f'{key}/{name}'].to(place[key]) for key in place if f'{key}/{name}' in tensors}
        if moments: optimizer.state[parameter] = moments
    return saved['log']


# %%
#| export
def train_grpo(model, tokenizer, tasks: list[Task], reward: Reward, settings: GrpoSettings, reference=None,
               out: Path | str | None = None, save_every: int = 10, stop: int | None = None, quiet: bool = False,
               states=None) -> list[dict]:
    "Run (or, if `out` holds a run, go on) until `settings.steps`, or until step `stop`; the log, one entry per step."
    if not tasks: raise InputError('GRPO needs at least one task; give prompts with solutions')
    optimizer = torch.optim.AdamW(_trainable(model).values(), settings.learning_rate, weight_decay=0.0)
    log = load_run(out, model, optimizer, settings) if out and (Path(out) / 'run.json').exists() else []
    bar = tqdm(range(len(log), min(stop or settings.steps, settings.steps)), disable=quiet, desc='GRPO')
    for step in bar:
        rise = min(1.0, (step + 1) / max(1, round(settings.warmup * settings.steps)))
        for part in optimizer.param_groups: part['lr'] = settings.learning_rate * rise
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + 500_000 + step)
        chosen = _step_tasks(tasks, settings, step)
        entry = grpo_step(model, tokenizer, chosen, reward, optimizer, settings, generator, reference, states)
        log.append(dict(step=step, **entry))
        bar.set_postfix(reward=f'{entry["reward"]:.2f}', flat=f'{entry["flat_groups"]}/{settings.prompts_per_step}')
        if out and (len(log) % save_every == 0 or step == bar.iterable[-1]):
            save_run(out, model, optimizer, settings, log)
    return log


# %%
#| export
def sampled_reward(model, tokenizer, tasks: list[Task], reward: Reward, settings: GrpoSettings, seed: int,
                   batch: int = 8) -> torch.Tensor:
    "Rewards (tasks, G) of fresh samples, for held-out tasks."
    rows, generator = [], torch.Generator().manual_seed(seed)
    for at in range(0, len(tasks), batch):
        part = tasks[at:at + batch]
        groups = rollouts(model, tokenizer, [task.prompt for task in part], settings.group, settings.words, generator,
                          settings.temperature, settings.top_p)
        rows += [[reward(text, task.solution) for text in group.texts] for task, group in zip(part, groups)]
    return torch.tensor(rows)


# %% [markdown]
# A run of 24 steps, and the same run stopped after 10 and continued from disk by a model that knows nothing:

# %%
settings = GrpoSettings(group=8, words=3, steps=24, prompts_per_step=3, learning_rate=2e-3, kl=0.02)
train, held_out = tasks[:40], tasks[40:]
before = sampled_reward(start, tokenizer, held_out, right_letter, settings, 9)
whole = copy.deepcopy(start)
log = train_grpo(whole, tokenizer, train, right_letter, settings, reference=start, quiet=True)
after = sampled_reward(whole, tokenizer, held_out, right_letter, settings, 9)
print(f'held-out reward {before.mean():.2f} -> {after.mean():.2f}')
assert after.mean() > before.mean() + 0.2

# %%
with tempfile.TemporaryDirectory() as folder:
    train_grpo(copy.deepcopy(start), tokenizer, train, right_letter, settings, start, f'{folder}/run', stop=10, quiet=True)
    resumed = train_grpo(guesser(5, steps=0), tokenizer, train, right_letter, settings, start, f'{folder}/run', quiet=True)
assert resumed == log

# %%
figure, axes = plt.subplots(1, 3, figsize=(8.4, 2.4))
curve = lambda name, log=log: [entry[name] for entry in log]
axes[0].plot(curve('reward'), color=PALETTE[0], label='whole'); axes[0].plot(curve('reward', resumed), ':', color=PALETTE[1], linewidth=3, label='stopped at 10')
axes[0].axvline(10, color=MUTED, linewidth=0.8); axes[0].set(title='reward', xlabel='step', ylim=(0, 1)); axes[0].legend()
axes[1].plot(curve('kl'), color=PALETTE[2]); axes[1].set(title='KL to the reference', xlabel='step')
axes[2].bar(range(24), curve('flat_groups'), color=PALETTE[4]); axes[2].set(title='groups without spread', xlabel='step', ylim=(0, 3.2)); plt.show()
assert curve('kl')[0] == 0 and max(curve('kl')) > 0.01

# %% [markdown]
# What to notice: reward rises although no answer was ever shown, only graded. It levels off near the share of C, because
# the films are noise and nothing better is possible; a reward that rises says nothing about *seeing*. And as the model grows
# sure, more and more groups have no spread: learning stops for lack of disagreement, not for lack of steps.

# %% [markdown]
# ## What we proved
#
# * the objective equals an independent double loop, and (in the tests, where it is installed) TRL's loss on the same words;
# * at the first step the ratio is 1 and the loss 0 while the gradient is not;
# * packed groups and separate rows give the same loss and gradients;
# * a run stopped and resumed has the same curve, to the last digit;
# * reward rises on held-out prompts, here by learning a prior and nothing else.

# %% [markdown]
# ## Try it
#
# 1. Set `inner=3`. When does the ratio leave 1, and when does clipping begin?
# 2. Divide by nothing instead of the standard deviation. What happens to group 2 of the picture above?
# 3. Give the films a colour that tells the letter. How many steps until the held-out reward exceeds the share of C?
#
# <details><summary>Solutions</summary>
#
# 1. The ratio is 1 in the first inner step by construction and leaves it in the second; clipping begins where it
#    passes 1 ± ε. Print both per step.
# 2. Groups with a small spread get small advantages: the group that is nearly agreed no longer counts as much as the
#    divided one. The picture shows which of the two is wanted.
# 3. Run until the held-out reward exceeds the share of C with its interval; one seed is an anecdote, so take three.
#
# </details>
