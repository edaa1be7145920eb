"""A small LMM-Track4D on simulated dialogues: trained for a few minutes, asked under four histories, beside its baselines.

    python benchmarks/track4d.py --seconds 900 --out results/track4d_tiny.json                    # the full model
    python benchmarks/track4d.py --seconds 900 --variant head=gru --out results/track4d_gru.json  # one ablation (repeatable)

Train and test dialogues come from different scenes. Constant velocity is *given* the first two of the four true states; the
mean path is that of the training dialogues. The result is one JSON file with a run card; intervals resample dialogues.
"""
import argparse
import dataclasses
import time
from pathlib import Path

import numpy as np
import torch

from track4d_ref.dialogue_sets import HISTORY_MODES, history, in_test, other_target
from track4d_ref.dialogues import make_dialogue
from track4d_ref.patches import PatchLayout
from track4d_ref.presets import load_preset
from track4d_ref.runcard import run_card
from track4d_ref.simulator import simulate_clip
from track4d_ref.storage import InputError, write_json
from track4d_ref.tokens import train_tokenizer
from track4d_ref.track4d import Track4D, Track4DConfig
from track4d_ref.track4d_asking import ask_all_dialogues
from track4d_ref.track4d_training import Track4DPlan, make_lesson, train_track4d
from track4d_ref.trajectory_scores import PathAnswer, bootstrap, constant_velocity, path_scores
from track4d_ref.vlm import build_vlm

SIZES = ('resolution=64', 'patch_size=8', 'text_width=96', 'text_layers=2', 'text_heads=4', 'text_kv_heads=2', 'vision_width=64',
         'vision_layers=2', 'objects_min=3', 'objects_max=3')
KEYS = ('traj_acc', 'late_traj_acc', 'sr@1m')


def lessons_of(preset, count: int, seed: int) -> tuple[list, list]:
    "(train, test) lessons from `count` clips; scenes are split by their hash."
    layout = PatchLayout(preset.patch_size, preset.merge_size, preset.temporal_patch_size)
    parts = ([], [])
    for index in range(count):
        try: clip = simulate_clip(seed, preset, index, rig='ring', views=2, domain='open', smooth=False)
        except InputError: continue
        for target in (1, 2, 3):
            dialogue = make_dialogue(clip, np.random.default_rng([seed, index, target]), target=target)
            if dialogue: parts[in_test(dialogue.scene)].append(make_lesson(clip, dialogue, layout))
    return parts


def inertia(lessons, train) -> dict[str, list[PathAnswer]]:
    "Answers that need no model: constant velocity from two true states, and the mean path of the training set."
    mean = np.mean([lesson.dialogue.turns[0].xyz_m for lesson in train], 0)
    found = {'constant velocity, first two states given': [], 'mean training path': []}
    for lesson in lessons:
        for order, number in enumerate(lesson.dialogue.path_turns, 1):
            turn = lesson.dialogue.turns[number]
            guesses = (constant_velocity(turn.times_s, turn.xyz_m[:2]), mean)
            for answers, guess in zip(found.values(), guesses):
                answers.append(PathAnswer(lesson.dialogue.id, order, turn.xyz_m, guess, lesson.others_m.get(number), turn.labels))
    return found


def summary(answers: list[PathAnswer], rounds: int) -> dict:
    "Scores with intervals; NaN becomes None."
    clean = lambda value: None if isinstance(value, float) and not np.isfinite(value) else value
    scores = {key: clean(value) for key, value in path_scores(answers).items()}
    return scores | {f'{key} 95%': [clean(v) for v in bootstrap(answers, key, rounds)] for key in KEYS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seconds', type=float, default=900)
    parser.add_argument('--steps', type=int, default=100_000)
    parser.add_argument('--clips', type=int, default=300)
    parser.add_argument('--asked', type=int, default=40, help='test dialogues')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--variant', action='append', default=[], metavar='KEY=VALUE')
    parser.add_argument('--work', help='folder of checkpoints, to continue a stopped run')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--out', required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    started, preset = time.perf_counter(), load_preset('tiny', SIZES)
    kinds = {field.name: type(field.default) for field in dataclasses.fields(Track4DConfig)}
    chosen = dict(text.split('=', 1) for text in options.variant)
    config = Track4DConfig(**{key: value == 'True' if kinds[key] is bool else kinds[key](value) for key, value in chosen.items()})
    train, test = lessons_of(preset, options.clips, 7000 + options.seed)
    test = test[:options.asked]
    corpus = [m['content'] for lesson in train for m in history(lesson.dialogue, 9, 'gold', as_text=True)]
    tokenizer = train_tokenizer(corpus, 500)
    model = Track4D(build_vlm(preset, tokenizer, options.seed), tokenizer, config, options.seed).to(options.device)
    plan = Track4DPlan(steps=options.steps, seconds=options.seconds, batch=8, learning_rate=1.5e-3, save_every=25, seed=options.seed)
    print(f'{len(train)} training and {len(test)} test dialogues, {sum(p.numel() for p in model.parameters()):,} parameters', flush=True)
    show = lambda row: row['iteration'] % 10 or print({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
    log = train_track4d(model, train, plan, Path(options.work) if options.work else None, show)
    model.eval()
    others = [other_target(lesson.dialogue, [l.dialogue for l in test], np.random.default_rng(number)) for number, lesson in enumerate(test)]
    result = {}
    runs = {mode: dict(mode=mode) for mode in HISTORY_MODES} | {'state only': dict(mode='self', use_text=False),
                                                                'text only': dict(mode='self', use_state=False)}
    runs |= {f'{name}, format given': how | {'format_given': True} for name, how in runs.items()}
    for name, how in runs.items():
        replies = ask_all_dialogues(model, test, others=others, **how)
        result[name] = summary(replies.paths, 500) | {'answer_accuracy': replies.answer_accuracy()}
        print(name, result[name], flush=True)
    for name, answers in inertia(test, train).items(): result[name] = summary(answers, 500)
    card = run_card('python benchmarks/track4d.py', preset, options.seed, started=started, steps=len(log), plan=vars(plan), config=vars(config))
    write_json(options.out, {'scores': result, 'train_dialogues': len(train), 'test_dialogues': len(test), 'run_card': card,
                             'log': log[::max(1, len(log) // 100)]})


if __name__ == '__main__':
    main()
