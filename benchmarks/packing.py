"""Training speed and memory: all questions of a clip in one packed row, against one row per question in the Hugging Face Trainer.

    python benchmarks/packing.py                                   # tiny, processor, 1 to 24 questions per clip
    python benchmarks/packing.py --preset small --questions 24
    python benchmarks/packing.py --slice 2 --questions 24           # two layers of the real 3B's dimensions, 32 frames of 448 x 448

The peer is transformers' own `Trainer` (the base class of TRL's SFTTrainer, whose collators cannot pack video): same model,
same weights, same data, same AdamW, one question per row, `--peer-batch` rows per step. It keeps its video tensors in memory
ready to use, so it pays for no decoding. A pair counts as trained when its forward, backward and optimiser step are over.
Both variants run in processes of their own, one after the other; the result is one JSON file with a run card.
"""
import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from transformers import Trainer, TrainingArguments

from track4d_ref.packing import ClipExample
from track4d_ref.patches import Video
from track4d_ref.presets import load_preset
from track4d_ref.runcard import run_card
from track4d_ref.sft import TrainPlan, train
from track4d_ref.storage import write_json
from track4d_ref.tokens import train_tokenizer
from track4d_ref.vlm import build_vlm, model_inputs

ASKED = ('How does the camera move in this video?\nA. moves forward\nB. moves left\nC. pans right\nD. tilts up\nAnswer with the letter '
         'of the right option.', 'Is it right that the distance between the red ball and the blue box increases?\nAnswer Yes or No.',
         'Which is nearer to the camera, the red ball or the blue box?\nA. the red ball\nB. the blue box\nAnswer with the letter of the right option.')
SLICE = ('text_width=2048', 'text_heads=16', 'text_kv_heads=2', 'vision_width=1280', 'vision_heads=16', 'frames=32', 'resolution=448', 'max_tokens=8192')


def build(options):
    "Model, tokenizer and examples, the same in both variants."
    sizes = (*SLICE, f'text_layers={options.slice}', f'vision_layers={options.slice}') if options.slice else ()
    preset = load_preset(options.preset, sizes)
    tokenizer = train_tokenizer(list(ASKED) * 9, 400)
    model, rng = build_vlm(preset, tokenizer, seed=0), np.random.default_rng(0)
    shape = (preset.frames, preset.resolution, preset.resolution, 3)
    talk = lambda n: ({'role': 'user', 'content': ASKED[n % 3]}, {'role': 'assistant', 'content': ('B', 'Yes', 'A')[n % 3]})
    return preset, model, tokenizer, [
        ClipExample(f'clip {i}', (Video(f'clip {i}', rng.integers(0, 256, shape, dtype=np.uint8), 1 / preset.fps),),
                    tuple(talk(n) for n in range(options.asked))) for i in range(options.clips)]


class Pairs(torch.utils.data.Dataset):
    "One item per question."
    def __init__(self, examples): self.items = [(clip.videos, talk) for clip in examples for talk in clip.dialogues]
    def __len__(self) -> int: return len(self.items)
    def __getitem__(self, index: int): return self.items[index]


def packed(options) -> float:
    "Seconds for one pass over all pairs with this project's loop, after a warm-up of one step."
    preset, model, tokenizer, examples = build(options)
    plan = TrainPlan(optimizer='adamw', batch_clips=options.batch_clips, freeze_vision=options.freeze, learning_rate=1e-4)
    train(model, tokenizer, examples[:1], plan, progress=False, most_tokens=10 ** 6)
    begin = time.perf_counter()
    train(model, tokenizer, examples, plan, progress=False, most_tokens=10 ** 6)
    return time.perf_counter() - begin


def separate(options) -> float:
    "The same pass through the Hugging Face Trainer, one row per pair."
    preset, model, tokenizer, examples = build(options)
    for parameter in model.model.visual.parameters(): parameter.requires_grad_(not options.freeze)
    collate = lambda samples: model_inputs(model, tokenizer, samples)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(folder, per_device_train_batch_size=options.peer_batch, num_train_epochs=1, learning_rate=1e-4,
                                      report_to=[], save_strategy='no', logging_strategy='no', remove_unused_columns=False,
                                      disable_tqdm=True, use_cpu=True, optim='adamw_torch', dataloader_num_workers=0, weight_decay=0.01)
        first = Pairs(examples[:1]); first.items = first.items[:options.peer_batch]
        Trainer(model, arguments, train_dataset=first, data_collator=collate).train()
        begin = time.perf_counter()
        Trainer(model, arguments, train_dataset=Pairs(examples), data_collator=collate).train()
        return time.perf_counter() - begin


def measure(options) -> dict:
    "Pairs per second and peak memory of one variant."
    seconds = min({'packed': packed, 'separate': separate}[options.variant](options) for _ in range(options.repeats))
    return dict(pairs_per_s=options.clips * options.asked / seconds, peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--preset', default='tiny')
    parser.add_argument('--slice', type=int, default=0, help="layers of a model with the real 3B's dimensions; 0 = the preset's own")
    parser.add_argument('--questions', type=int, nargs='+', default=[1, 3, 6, 12, 24])
    parser.add_argument('--clips', type=int, default=8)
    parser.add_argument('--batch-clips', type=int, default=1, help='clips per packed step; on a processor one is fastest, its activations stay in the cache')
    parser.add_argument('--peer-batch', type=int, default=8, help='rows per step of the peer')
    parser.add_argument('--repeats', type=int, default=2, help='the best of so many passes counts')
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--freeze', action='store_true', help='freeze the vision tower, as the papers do')
    parser.add_argument('--variant', choices=('packed', 'separate'))
    parser.add_argument('--asked', type=int, default=0)
    parser.add_argument('--out')
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.variant: return print(json.dumps(measure(options)))
    started, curve = time.perf_counter(), []
    for count in options.questions:
        found = {}
        for variant in ('packed', 'separate'):
            done = subprocess.run([sys.executable, __file__, *sys.argv[1:], '--variant', variant, '--asked', str(count)], capture_output=True, text=True)
            if done.returncode: sys.exit(f'{variant}: {done.stderr[-1500:]}')
            found[variant] = json.loads(done.stdout.splitlines()[-1])
        curve.append(dict(questions=count, times_faster=found['packed']['pairs_per_s'] / found['separate']['pairs_per_s'], **found))
        print(f"{count:3d} questions per clip: packed {found['packed']['pairs_per_s']:7.2f} pairs/s, {found['packed']['peak_mib']:6.0f} MiB; "
              f"Trainer {found['separate']['pairs_per_s']:7.2f} pairs/s, {found['separate']['peak_mib']:6.0f} MiB; {curve[-1]['times_faster']:.2f} times faster", flush=True)
    card = run_card('benchmarks/packing.py ' + ' '.join(sys.argv[1:]), load_preset(options.preset), 0, started=started, options=vars(options))
    where = options.out or f'results/benchmark_packing_{"slice" if options.slice else options.preset}.json'
    Path(where).parent.mkdir(parents=True, exist_ok=True)
    write_json(where, dict(curve=curve, peer='transformers.Trainer', card=card))


if __name__ == '__main__':
    main()
