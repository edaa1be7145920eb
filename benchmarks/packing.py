"""Training speed and memory: all questions of a clip in one packed row, against one row per question in TRL's SFTTrainer.

    python benchmarks/packing.py                                       # tiny, processor, 1 to 24 questions per clip
    python benchmarks/packing.py --vision frozen                       # the tower frozen, as the papers do; then its output kept
    python benchmarks/packing.py --slice 1 --questions 6 24 --clips 2 --peer-once --peer-batch 1 --peer-rows 2 --repeats 1 --threads 2
                                                                       # one layer of the real 3B, 32 frames of 448 x 448

The peer is TRL's `SFTTrainer` (pip install "track4d_ref[trl]") with our collator, for its own cannot take our video tensors and
its packing refuses vision data. Same model, weights, data, precision, AdamW, and pairs per update: the peer accumulates as many
rows as the packed row has questions. Its patches are made once and kept, so it pays for no decoding. Both first losses are
stored; they agree. Gradient checkpointing is off in both (TRL's default is on). A variant runs in a process of its own; clocks
start after a warm-up of one row or step. Of the peer, `--peer-rows` rows are timed and extrapolated: all its rows are alike.
With the tower frozen, `packed` sees each clip for the first time and `kept` uses its stored features in a second pass.
The result is one JSON file with a run card; `fit` holds seconds per video and per question, and the bound that follows.
"""
import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from track4d_ref.packing import ClipExample
from track4d_ref.patches import Video
from track4d_ref.presets import load_preset
from track4d_ref.real_sizes import slice_model
from track4d_ref.runcard import run_card
from track4d_ref.sft import BatchOrder, TrainPlan, train
from track4d_ref.storage import read_json, write_json
from track4d_ref.tokens import train_tokenizer
from track4d_ref.vlm import build_vlm, model_inputs, video_inputs

ASKED = ('How does the camera move in this video?\nA. moves forward\nB. moves left\nC. pans right\nD. tilts up\n'
         'Answer with the letter of the right option.',
         'Is it right that the distance between the red ball and the blue box increases?\nAnswer Yes or No.',
         'Which is nearer to the camera, the red ball or the blue box?\nA. the red ball\nB. the blue box\n'
         'Answer with the letter of the right option.')
ANSWERS = ('B', 'Yes', 'A')


def build(options):
    "Model, tokenizer and examples, the same in both variants."
    preset = load_preset(options.preset, tuple(options.set))
    tokenizer = train_tokenizer(list(ASKED) * 9, 400)
    model = (slice_model('3B', tokenizer, options.slice, options.slice) if options.slice
             else build_vlm(preset, tokenizer, seed=0))
    frames, side = (options.frames, 448) if options.slice else (preset.frames, preset.resolution)
    rng = np.random.default_rng(0)
    talk = lambda n: ({'role': 'user', 'content': ASKED[n % 3]}, {'role': 'assistant', 'content': ANSWERS[n % 3]})
    return model, tokenizer, [
        ClipExample(f'clip {i}', (Video(f'clip {i}', rng.integers(0, 256, (frames, side, side, 3), dtype=np.uint8), 1 / preset.fps),),
                    tuple(talk(n) for n in range(options.asked))) for i in range(options.clips)]


def packed(options) -> dict:
    "Seconds per pair with this project's loop; with the tower frozen also those of a second pass over kept features."
    model, tokenizer, examples = build(options)
    frozen, steps = options.vision == 'frozen', -(-options.clips // options.batch_clips)
    plan = TrainPlan(steps=steps * (1 + frozen), optimizer='adamw', batch_clips=options.batch_clips, learning_rate=1e-4,
                     warmup=0.0, weight_decay=0.01, freeze_vision=frozen)
    ends, pairs = [], options.batch_clips * options.asked
    state = train(model, tokenizer, examples, plan, progress=False, most_tokens=10 ** 6, on_step=lambda _: ends.append(time.perf_counter()))
    spent = np.diff(ends)
    found = dict(seconds_per_pair=float(np.median(spent[:steps - 1])) / pairs, first_loss=state.rows[0]['loss'])
    if frozen: found['kept_seconds_per_pair'] = float(np.median(spent[steps - 1:])) / pairs
    return found


def one_row_each(model, tokenizer, examples):
    "A collator that turns {clip, question} items into rows of the library's arguments; patches are made once per clip."
    kept = {}
    def made_once(model, videos):
        for video in videos:
            if video.name not in kept: kept[video.name] = video_inputs(model, (video,))
        return {name: torch.cat([kept[video.name][name] for video in videos]) for name in kept[videos[0].name]}
    def collate(items: list[dict]) -> dict:
        with patch('track4d_ref.vlm.video_inputs', made_once):
            return model_inputs(model, tokenizer, [(clip.videos, clip.dialogues[item['question']])
                                                   for item in items for clip in [examples[item['clip']]]])
    return collate


def separate(options) -> dict:
    "Seconds per pair of TRL's SFTTrainer, one row per pair, as many pairs per update as the packed variant has."
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer
    model, tokenizer, examples = build(options)
    for parameter in model.model.visual.parameters(): parameter.requires_grad_(options.vision == 'trained')
    batch = max(size for size in range(1, options.peer_batch + 1) if options.asked % size == 0)
    rows = min(options.peer_rows + batch, options.clips * options.asked) // batch * batch
    clips = np.concatenate([BatchOrder(np.ones(options.clips), options.batch_clips, 0)[step] for step in range(options.clips)])
    items = Dataset.from_list([dict(clip=int(clips[i // options.asked]), question=i % options.asked) for i in range(rows)])
    ends, losses = [], []
    class Clock(TrainerCallback):
        def on_substep_end(self, *_, **__): ends.append(time.perf_counter())
        def on_step_end(self, *_, **__): ends.append(time.perf_counter())
        def on_log(self, arguments, state, control, logs=None, **__): losses.append((logs or {}).get('loss'))
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(folder, per_device_train_batch_size=batch, num_train_epochs=1, learning_rate=1e-4, report_to=[],
                              gradient_accumulation_steps=max(1, options.batch_clips * options.asked // batch), bf16=False,
                              gradient_checkpointing=False, max_length=None, dataset_kwargs={'skip_prepare_dataset': True},
                              remove_unused_columns=False, save_strategy='no', logging_steps=1, disable_tqdm=True, use_cpu=True,
                              optim='adamw_torch', weight_decay=0.01, lr_scheduler_type='cosine',
                              train_sampling_strategy='sequential')
        trainer = SFTTrainer(model, arguments, train_dataset=items, data_collator=one_row_each(model, tokenizer, examples),
                             processing_class=tokenizer, callbacks=[Clock()])
        trainer.train()
    return dict(seconds_per_pair=float(np.mean(np.diff(ends))) / batch, first_loss=losses[0], rows_timed=rows - batch, batch=batch)


def measure(options) -> dict:
    "What one variant took; the fastest of `repeats` runs counts."
    runs = [{'packed': packed, 'separate': separate}[options.variant](options) for _ in range(options.repeats)]
    found = min(runs, key=lambda run: run['seconds_per_pair'])
    found['pairs_per_s'] = 1 / found['seconds_per_pair']
    found = dict(found, peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    if options.parts: write_json(part_of(options.parts, options.variant, options.asked), found)
    return found


def part_of(folder: str, variant: str, asked: int) -> Path: return Path(folder) / f'{variant}_{asked}.json'


def fit(curve: list[dict]) -> dict:
    "Seconds per video and per question of the packed rows (least squares), and how much faster packing can get at most."
    counts = np.array([row['questions'] for row in curve], float)
    found = {}
    for name, key in (('packed', 'seconds_per_pair'), ('kept', 'kept_seconds_per_pair')):
        if len(curve) < 2 or key not in curve[0]['packed']: continue
        per_clip = counts * [row['packed'][key] for row in curve]
        per_question, per_video = np.polyfit(counts, per_clip, 1)
        separate = float(np.mean([row['separate']['seconds_per_pair'] for row in curve]))
        found[name] = dict(seconds_per_video=per_video, seconds_per_question=per_question, separate_seconds_per_pair=separate,
                           most_times_faster=separate / per_question)
    return found


def run_variant(options, variant: str, asked: int) -> dict:
    "The measurement of a process of its own, or the one that lies in --parts."
    if options.parts and part_of(options.parts, variant, asked).exists(): return read_json(part_of(options.parts, variant, asked))
    done = subprocess.run([sys.executable, __file__, *sys.argv[1:], '--variant', variant, '--asked', str(asked)], capture_output=True, text=True)
    if done.returncode: sys.exit(f'{variant}: {done.stderr[-1500:]}')
    return json.loads(done.stdout.splitlines()[-1])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--preset', default='tiny')
    parser.add_argument('--set', action='append', default=[], help='key=value overrides the preset')
    parser.add_argument('--slice', type=int, default=0, help="layers of a model with the real 3B's dimensions; 0 = the preset's own")
    parser.add_argument('--frames', type=int, default=32, help='of 448 x 448, with --slice')
    parser.add_argument('--questions', type=int, nargs='+', default=[1, 3, 6, 12, 24])
    parser.add_argument('--clips', type=int, default=8)
    parser.add_argument('--batch-clips', type=int, default=1, help='clips per packed step; on a processor one is fastest')
    parser.add_argument('--peer-batch', type=int, default=4, help='rows of the peer that go through the model together')
    parser.add_argument('--peer-rows', type=int, default=48, help='rows of the peer that are timed')
    parser.add_argument('--peer-once', action='store_true', help='time the rows of the peer at the largest number of questions only')
    parser.add_argument('--parts', help='folder that keeps finished measurements, so that a long run can be made in pieces')
    parser.add_argument('--repeats', type=int, default=2, help='the fastest of so many runs counts')
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--vision', choices=('trained', 'frozen'), default='trained')
    parser.add_argument('--variant', choices=('packed', 'separate'))
    parser.add_argument('--asked', type=int, default=0)
    parser.add_argument('--out')
    return parser.parse_args()


def described(row: dict) -> str:
    "One line of the table."
    ours, peer = row['packed'], row['separate']
    kept = f" ({1 / ours['kept_seconds_per_pair']:.2f} with kept features)" if 'kept_seconds_per_pair' in ours else ''
    return (f"{row['questions']:3d} questions per clip: packed {ours['pairs_per_s']:.3f} pairs/s{kept}, {ours['peak_mib']:.0f} MiB; "
            f"SFTTrainer {peer['pairs_per_s']:.3f} pairs/s, {peer['peak_mib']:.0f} MiB; {row['times_faster']:.2f} times faster; "
            f"first loss {ours['first_loss']:.4f} and {peer['first_loss']:.4f}")


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    if options.variant: return print(json.dumps(measure(options)))
    started, curve = time.perf_counter(), []
    for count in options.questions:
        found = {variant: run_variant(options, variant, asked)
                 for variant, asked in (('packed', count), ('separate', max(options.questions) if options.peer_once else count))}
        curve.append(dict(questions=count, times_faster=found['packed']['pairs_per_s'] / found['separate']['pairs_per_s'], **found))
        print(described(curve[-1]), flush=True)
    card = run_card('benchmarks/packing.py ' + ' '.join(sys.argv[1:]), load_preset(options.preset, tuple(options.set)), 0, started=started,
                    options=vars(options), trl=metadata.version('trl'))
    kind = f'3b_slice_{options.slice}' if options.slice else options.preset
    where = Path(options.out or f'results/benchmark_packing_{kind}_{options.vision}.json')
    where.parent.mkdir(parents=True, exist_ok=True)
    write_json(where, dict(curve=curve, fit=fit(curve), peer='trl.SFTTrainer', card=card))
    print(json.dumps(fit(curve), indent=1))


if __name__ == '__main__':
    main()
