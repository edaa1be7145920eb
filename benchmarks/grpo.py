"""One GRPO step (rollouts, forward, backward) with the video read once per group, against the same step without sharing.

    python benchmarks/grpo.py                                  # tiny, processor
    python benchmarks/grpo.py --set frames=16 resolution=196   # 392 video tokens, the budget of MLLM-4D's script
    python benchmarks/grpo.py --preset rtx24 --micro 1 --device cuda --words 128

The peer is the same step as trainers do it: the library's `generate` on G identical rows, then one ordinary row per
completion. TRL's GRPOTrainer (1.16) cannot be the peer: its loss passes `pixel_values` and `image_grid_thw` of images to the
model but has no argument for `pixel_values_videos` and `video_grid_thw`, so a prompt with a video never reaches the model.
Weights are random (speed does not depend on them), the vision tower is frozen as in MLLM-4D's recipe unless --train-vision.
Both variants run in a process of their own, one after the other; the result is one JSON file with a run card.
"""
import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from track4d_ref.grpo import group_advantages, grpo_loss
from track4d_ref.packing import ClipExample
from track4d_ref.patches import Video
from track4d_ref.presets import load_preset
from track4d_ref.rollouts import completion_logps, rollouts
from track4d_ref.runcard import run_card
from track4d_ref.storage import write_json
from track4d_ref.tokens import train_tokenizer
from track4d_ref.vlm import build_vlm, model_inputs

QUESTION = 'About how many metres is the red ball displaced between frame 2 and frame 7 of 7? A. 1.0 B. 2.0 C. 0.4 D. 3.1'


def build(options):
    "Model, tokenizer and prompt of the benchmark."
    preset = load_preset(options.preset, tuple(options.set))
    tokenizer = train_tokenizer([QUESTION + ' Answer with the letter.'] * 9, 400)
    dtype = torch.bfloat16 if options.device == 'cuda' else torch.float32
    with torch.device(options.device): model = build_vlm(preset, tokenizer, seed=0).to(options.device, dtype)
    model.model.visual.requires_grad_(options.train_vision)
    frames = np.random.default_rng(0).integers(0, 256, (preset.frames, preset.resolution, preset.resolution, 3), dtype=np.uint8)
    prompt = ClipExample('clip', (Video('clip', frames, 1 / preset.fps),), (({'role': 'user', 'content': QUESTION},),))
    return model, tokenizer, prompt


def update(model, logps, mask, advantages) -> float:
    "Backward of the GRPO loss with ratio 1."
    loss, _ = grpo_loss(logps, logps.detach(), None, advantages, mask)
    loss.backward()
    return loss.item()


def shared_step(model, tokenizer, prompt, options, generator) -> dict:
    "This project's step."
    begin = now(options)
    groups = rollouts(model, tokenizer, [prompt], options.group, options.words, generator)
    sampled = now(options)
    logps, mask = completion_logps(model, tokenizer, groups)
    update(model, logps, mask, random_advantages(options, logps))
    return dict(rollout_s=sampled - begin, update_s=now(options) - sampled, words=int(mask.sum()))


def separate_step(model, tokenizer, prompt, options, generator) -> dict:
    "The same without sharing: G rows with a video each, `micro` of them at a time in the update."
    begin, sample = now(options), (prompt.videos, prompt.dialogues[0])
    inputs = on_device(model_inputs(model, tokenizer, [sample] * options.group, pad_left=True), model)
    with torch.no_grad():
        never = [model.config.video_token_id, model.config.image_token_id]
        out = model.generate(**inputs, do_sample=True, top_k=0, suppress_tokens=never, min_new_tokens=options.words, max_new_tokens=options.words,
                             pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id)
    sampled, front = now(options), inputs['input_ids'].shape[1]
    completions, advantages = out[:, front:], random_advantages(options, model.lm_head.weight)
    for at in range(0, options.group, options.micro):
        part = completions[at:at + options.micro]
        rows = on_device(model_inputs(model, tokenizer, [sample] * len(part)), model)
        rows['input_ids'] = torch.cat([rows['input_ids'], part], 1)
        rows['attention_mask'] = torch.ones_like(rows['input_ids'])
        rows['mm_token_type_ids'] = (rows['input_ids'] == model.config.video_token_id).int() * 2
        logits = model(**rows, logits_to_keep=part.shape[1] + 1).logits[:, :-1].float()
        logps = torch.log_softmax(logits, -1).gather(-1, part[..., None])[..., 0]
        update(model, logps, torch.ones_like(logps), advantages[at:at + options.micro] * len(part) / options.group)
    return dict(rollout_s=sampled - begin, update_s=now(options) - sampled, words=completions.numel())


def on_device(inputs: dict, model) -> dict:
    "Inputs of the library's forward, without labels, where the model is."
    inputs.pop('labels')
    return {name: value.to(model.device, model.dtype if name == 'pixel_values_videos' else None) for name, value in inputs.items()}


def random_advantages(options, like: torch.Tensor) -> torch.Tensor:
    "Advantages of random rewards, the same in both variants."
    rewards = torch.rand(1, options.group, generator=torch.Generator().manual_seed(1))
    return group_advantages(rewards)[0].flatten().to(like.device, torch.float32)


def now(options) -> float:
    if options.device == 'cuda': torch.cuda.synchronize()
    return time.perf_counter()


def peak_mib(options) -> float:
    "Peak memory so far: of the accelerator, or of this process."
    if options.device == 'cuda': return torch.cuda.max_memory_allocated() / 2 ** 20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(options) -> dict:
    "Median of `repeats` steps after one warm-up, and the memory beyond the loaded model."
    model, tokenizer, prompt = build(options)
    step = {'shared': shared_step, 'separate': separate_step}[options.variant]
    loaded, runs = peak_mib(options), []
    if options.device == 'cuda':
        loaded = torch.cuda.memory_allocated() / 2 ** 20
        torch.cuda.reset_peak_memory_stats()
    for number in range(options.repeats + 1):
        model.zero_grad(set_to_none=True)
        begin = time.process_time()
        runs.append(step(model, tokenizer, prompt, options, torch.Generator().manual_seed(number)))
        runs[-1]['processor_s'] = time.process_time() - begin
    median = {key: float(np.median([run[key] for run in runs[1:]])) for key in runs[0]}
    return dict(median, step_s=float(np.median([run['rollout_s'] + run['update_s'] for run in runs[1:]])), loaded_mib=loaded,
                peak_mib=peak_mib(options), parameters=sum(p.numel() for p in model.parameters()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--preset', default='tiny')
    parser.add_argument('--set', nargs='*', default=[], help='key=value overrides of the preset')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--group', type=int, default=12)
    parser.add_argument('--words', type=int, default=32)
    parser.add_argument('--micro', type=int, default=12, help='completions per forward of the peer')
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--threads', type=int, default=1, help='of the processor')
    parser.add_argument('--train-vision', action='store_true')
    parser.add_argument('--variant', choices=('shared', 'separate'))
    parser.add_argument('--out')
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.variant: return print(json.dumps(measure(options)))
    started, found = time.perf_counter(), {}
    for variant in ('shared', 'separate'):
        done = subprocess.run([sys.executable, __file__, *sys.argv[1:], '--variant', variant], capture_output=True, text=True)
        if done.returncode: sys.exit(f'{variant}: {done.stderr[-1500:]}')
        found[variant] = json.loads(done.stdout.splitlines()[-1])
        print(variant, {key: round(value, 3) for key, value in found[variant].items()}, flush=True)
    cost = {name: found[name]['step_s'] / found[name]['words'] for name in found}      # completions may end early
    cpu = {name: found[name]['processor_s'] / found[name]['words'] for name in found}
    memory = [found[name]['peak_mib'] - found[name]['loaded_mib'] for name in ('separate', 'shared')]
    found |= dict(times_faster=cost['separate'] / cost['shared'], times_less_processor=cpu['separate'] / cpu['shared'],
                  memory_ratio=memory[0] / max(memory[1], 1e-9))
    print(f"per word {found['times_faster']:.2f} times faster ({found['times_less_processor']:.2f} in processor time), {found['memory_ratio']:.2f} times less memory beyond the model")
    card = run_card('benchmarks/grpo.py ' + ' '.join(sys.argv[1:]), load_preset(options.preset, tuple(options.set)), 0, started=started, options=vars(options))
    where = options.out or f'results/benchmark_grpo_{options.preset}_{options.device}.json'
    Path(where).parent.mkdir(parents=True, exist_ok=True)
    write_json(where, dict(found, card=card))


if __name__ == '__main__':
    main()
