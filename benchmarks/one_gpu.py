"""Memory of QLoRA on slices of Qwen2.5-VL with the real matrices, scaled to all layers, beside the formula of notebook 21d.

    python benchmarks/one_gpu.py                       # one and two layers of the 3B, on the processor
    python benchmarks/one_gpu.py --cases 3B:1:32:448:24 --out runs/one_case.json

A case is size:layers:frames:side:questions. Each runs in a process of its own: model in bfloat16, matrices in NF4, rank 16 with
dropout, gradient checkpointing, AdamW, one packed row. `LiveBytes` counts every tensor the step makes; standing bytes are those of
the tensors the model holds. Scaled: standing bytes of one layer times the layers, plus the measured step, plus the inputs of the
other layers. Memory does not depend on how busy the machine is; the seconds do, and are stored only to say how long this took.
"""
import argparse
import json
import resource
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from track4d_ref.adapters import AdapterPlan, add_adapter
from track4d_ref.memory import LiveBytes, memory_table, row_shape
from track4d_ref.optimizers import apply_gradients, loss_scale, make_optimizers, mixed, trainable
from track4d_ref.packing import ClipExample, collate, pack, packed_loss, visual_features
from track4d_ref.patches import Video
from track4d_ref.real_sizes import real_config, slice_model
from track4d_ref.runcard import run_card
from track4d_ref.storage import write_json
from track4d_ref.tokens import train_tokenizer

CASES = ('3B:1:8:224:8', '3B:2:8:224:8')
PLAN = AdapterPlan(rank=16, alpha=32, dropout=0.05, quantize='nf4')
QUESTION = ('How does the camera move in this video?\nA. moves forward\nB. moves left\nC. pans right\nD. tilts up\n'
            'Answer with the letter of the right option.')


def held_bytes(model) -> int:
    "Bytes of all tensors a model holds, four-bit scales included."
    tensors = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}.values()
    states = [tensor.quant_state for tensor in tensors if hasattr(tensor, 'quant_state')]
    return sum(tensor.nbytes for tensor in tensors) + sum(state.absmax.nbytes + state.state2.absmax.nbytes + 4 for state in states)


def measure(size: str, layers: int, frames: int, side: int, questions: int) -> dict:
    "One step on one packed row of a slice: bytes held, bytes the step needed, bytes the process reached."
    tokenizer = train_tokenizer([QUESTION] * 9, 400)
    model = slice_model(size, tokenizer, layers, 1, dtype=torch.bfloat16)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=dict(use_reentrant=False))
    model = add_adapter(model, PLAN).train()
    optimizers = make_optimizers(trainable(model, freeze_vision=True), 'adamw', 1e-4, 0.0)
    dialogue = ({'role': 'user', 'content': QUESTION}, {'role': 'assistant', 'content': 'B'})
    video = Video('clip', np.random.default_rng(0).integers(0, 256, (frames, side, side, 3), dtype=np.uint8), 0.125)
    example = ClipExample('clip', (video,), (dialogue,) * questions)
    row, begin = pack(model, tokenizer, example), time.perf_counter()
    batch = collate(model, [row], [example])
    with torch.no_grad(), mixed('bfloat16', model.device), LiveBytes() as tower: seen = visual_features(model, batch)
    batch = replace(batch, features=seen, pixels=None)
    with LiveBytes() as meter:
        with mixed('bfloat16', model.device): loss = packed_loss(model, batch)
        loss.backward()
        activations = meter.peak
        apply_gradients(optimizers, loss_scale('bfloat16', model.device), 1.0, 1.0)
    shape = row_shape(row, frames * side * side // 196 // 2)
    table = memory_table(real_config(size, layers, 1, tokenizer), shape, PLAN, 'adamw')
    standing = sum(table[name] for name in ('matrices', 'other frozen weights', 'adapters'))
    passing = sum(table[name] for name in ('layers waiting', 'layer at work', 'logits', 'gradients'))
    return dict(size=size, layers=layers, frames=frames, side=side, questions=questions, row=vars(shape), loss=loss.item(),
                held=held_bytes(model), held_formula=standing, step=activations, step_formula=passing, tower=tower.peak,
                tower_formula=table['tower (not at the same time)'], seconds=time.perf_counter() - begin,
                process=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--cases', nargs='+', default=CASES)
    parser.add_argument('--one')
    parser.add_argument('--out', default='results/benchmark_one_gpu.json')
    options, started = parser.parse_args(), time.perf_counter()
    if options.one:
        size, *numbers = options.one.split(':')
        return print(json.dumps(measure(size, *map(int, numbers))))
    warnings.filterwarnings('ignore')
    rows = []
    for case in options.cases:
        done = subprocess.run([sys.executable, __file__, '--one', case], capture_output=True, text=True)
        if done.returncode: sys.exit(f'{case}: {done.stderr[-1500:]}')
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        row = rows[-1]
        print(f"{case}: held {row['held'] / 2**20:.0f} MiB (formula {row['held_formula'] / 2**20:.0f}), step {row['step'] / 2**20:.0f} MiB "
              f"(formula {row['step_formula'] / 2**20:.0f}), tower {row['tower'] / 2**20:.0f} MiB (formula {row['tower_formula'] / 2**20:.0f}), "
              f"process {row['process'] / 2**20:.0f} MiB, {row['seconds']:.0f} s", flush=True)
        card = run_card('benchmarks/one_gpu.py', dict(plan=vars(PLAN)), 0, started=started)
        write_json(Path(options.out), dict(cases=rows, card=card))


if __name__ == '__main__':
    main()
