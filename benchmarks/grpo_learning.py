"""Does GRPO raise the ST-reward on held-out clips? A tiny model, several seeds, a paired test; accuracy beside it.

    python benchmarks/grpo_learning.py --seeds 8

Per seed: a new model learns the form of spatial chains of thought from candidates that passed the filter (cold start), then
GRPO runs on training clips. Held-out clips are other clips of the simulator. Reported before and after, from sampled
completions: total reward, its parts, and the share of right letters. The p-value is an exact one-sided sign-flip test over
the seeds. So small a model does not see motion: what it can learn is the form and the typical places, not the answers.
"""
import argparse
import copy
import itertools
import time
from dataclasses import asdict, replace

import numpy as np
import torch

from track4d_ref.grpo import GrpoSettings, Task, sampled_reward, train_grpo
from track4d_ref.measurements import measure
from track4d_ref.packing import ClipExample, collate, pack, packed_loss
from track4d_ref.patches import Video
from track4d_ref.presets import load_preset
from track4d_ref.relations import ask_relations
from track4d_ref.rewards import keep_chains, st_reward
from track4d_ref.rollouts import rollouts
from track4d_ref.runcard import run_card
from track4d_ref.scene_points import points_from_depth
from track4d_ref.simulator import simulate_clip
from track4d_ref.spatial_cot import candidate_traces, cot_prompt, solution
from track4d_ref.storage import write_json
from track4d_ref.tokens import train_tokenizer
from track4d_ref.vlm import build_vlm

SIZES = ('frames=4', 'resolution=56', 'text_layers=3', 'text_width=128', 'text_heads=4', 'vision_layers=1', 'vision_width=48')
SETTINGS = GrpoSettings(group=8, learning_rate=5e-4, kl=0.02, words=260, prompts_per_step=4, steps=40)


def data(preset, clips: range):
    "Tasks with their scenario, and kept cold-start dialogues per clip."
    tasks, cold = [], []
    for index in clips:
        clip, rng = simulate_clip(77, preset, index, domain='open'), np.random.default_rng(index)
        video, m = Video(clip.id, clip.view.frames, 1 / preset.fps), measure(clip)
        asked = ask_relations(points_from_depth(clip), rng, per_kind=1, even=True)
        traces = [candidate_traces(question, m, rng, decimals=1) for question in asked]
        cold.append((video, [(question, texts) for question, texts in zip(asked, traces)]))
        for question in asked:
            prompt = ClipExample(f'{clip.id} {question.type}', (video,), (({'role': 'user', 'content': cot_prompt(question)},),))
            tasks.append(Task(prompt, solution(question)))
    return tasks, cold


def filtered(cold) -> list[ClipExample]:
    "One packed example per clip with the chains that pass the filter."
    scored = {(c, q): (question.type, [st_reward(text, solution(question)).total for text in texts])
              for c, (_, asked) in enumerate(cold) for q, (question, texts) in enumerate(asked)}
    kept, examples = keep_chains(scored), []
    for c, (video, asked) in enumerate(cold):
        dialogues = tuple(({'role': 'user', 'content': cot_prompt(question)}, {'role': 'assistant', 'content': texts[kept[c, q]]})
                          for q, (question, texts) in enumerate(asked) if (c, q) in kept)
        if dialogues: examples.append(ClipExample(f'cold {c}', (video,), dialogues))
    return examples


def cold_start(preset, tokenizer, examples: list[ClipExample], seed: int, steps: int):
    "A model that has seen the form."
    model, rng = build_vlm(preset, tokenizer, seed=seed), np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.01)
    for step in range(steps):
        chosen = [examples[k] for k in rng.choice(len(examples), 4, replace=False)]
        optimizer.param_groups[0]['lr'] = 2e-3 * min(1, (step + 1) / 20) * (1 - 0.9 * step / steps)
        optimizer.zero_grad()
        packed_loss(model, collate(model, [pack(model, tokenizer, example) for example in chosen], chosen)).div(8).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model


def held_out(model, tokenizer, tasks: list[Task], seed: int) -> dict[str, float]:
    "Mean parts of the reward over fresh samples."
    parts = ('format', 'accuracy', 'camera', 'object', 'total')
    few = replace(SETTINGS, group=4)
    means = {part: sampled_reward(model, tokenizer, tasks, lambda text, truth, part=part: getattr(st_reward(text, truth), part), few, seed,
                                  batch=16).mean().item() for part in parts}
    return means | dict(right_letters=means['accuracy'] / 0.5)


def sign_flip_p(gains: list[float]) -> float:
    "Exact one-sided p of the mean gain under random signs."
    flips = np.array(list(itertools.product((1, -1), repeat=len(gains))))
    return float(((flips * np.array(gains)).mean(1) >= np.mean(gains) - 1e-12).mean())


def one_seed(seed: int, preset, tokenizer, train, test, examples, options) -> dict:
    start = cold_start(preset, tokenizer, examples, seed, options.cold_steps)
    before = held_out(start, tokenizer, test, 1000 + seed)
    model = copy.deepcopy(start)
    log = train_grpo(model, tokenizer, train, lambda text, truth: st_reward(text, truth).total, replace(SETTINGS, seed=seed, steps=options.steps), start, quiet=True)
    after = held_out(model, tokenizer, test, 1000 + seed)
    print(f'seed {seed}: reward {before["total"]:.3f} -> {after["total"]:.3f}, letters {before["right_letters"]:.3f} -> '
          f'{after["right_letters"]:.3f}, format {before["format"]:.3f} -> {after["format"]:.3f}', flush=True)
    return dict(seed=seed, before=before, after=after, reward_curve=[entry['reward'] for entry in log], kl_curve=[entry['kl'] for entry in log],
                flat_groups=sum(entry['flat_groups'] for entry in log))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seeds', type=int, default=8)
    parser.add_argument('--steps', type=int, default=SETTINGS.steps)
    parser.add_argument('--cold-steps', type=int, default=150)
    parser.add_argument('--train-clips', type=int, default=40)
    parser.add_argument('--test-clips', type=int, default=10)
    parser.add_argument('--out', default='results/grpo_learning_tiny.json')
    options = parser.parse_args()
    torch.set_num_threads(1)
    started, preset = time.perf_counter(), load_preset('tiny', SIZES)
    train, cold = data(preset, range(options.train_clips))
    test, _ = data(preset, range(10_000, 10_000 + options.test_clips))
    examples = filtered(cold)
    texts = [message['content'] for example in examples for dialogue in example.dialogues for message in dialogue]
    tokenizer = train_tokenizer(texts, 1024)
    print(f'{len(train)} training and {len(test)} held-out questions, {sum(len(e.dialogues) for e in examples)} chains kept, '
          f'{max(len(tokenizer(t).input_ids) for t in texts)} words in the longest text', flush=True)
    runs = [one_seed(seed, preset, tokenizer, train, test, examples, options) for seed in range(options.seeds)]
    gain = {name: [run['after'][name] - run['before'][name] for run in runs] for name in runs[0]['after']}
    summary = {name: dict(mean_gain=float(np.mean(values)), p=sign_flip_p(values)) for name, values in gain.items()}
    for name, row in summary.items(): print(f'{name:14s} mean gain {row["mean_gain"]:+.4f}, p = {row["p"]:.4f}')
    card = run_card('benchmarks/grpo_learning.py', preset, 0, started=started, settings=asdict(SETTINGS), options=vars(options))
    write_json(options.out, dict(runs=runs, summary=summary, card=card))


if __name__ == '__main__':
    main()
