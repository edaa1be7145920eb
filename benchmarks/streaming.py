"""Processor time and memory per frame of a stream: TRK, which keeps a state, beside reading the whole window again.

    python benchmarks/streaming.py --frames 1000 --out results/benchmark_streaming_tiny_cpu.json

The stream is read two frames at a time, each pair once; the peer reads the last `--window` frames again for every pair, and, to show where that
leads, all frames so far up to `--most`. Frames are noise: cost does not depend on what they show. Memory is the growth of the process since
the model was loaded; the state's size is counted in bytes. The result is one JSON file with a run card.
"""
import argparse
import gc
import resource
import time

import numpy as np
import torch

from track4d_ref.clips import Clip, View
from track4d_ref.presets import load_preset
from track4d_ref.runcard import run_card
from track4d_ref.storage import write_json
from track4d_ref.tokens import train_tokenizer
from track4d_ref.track4d import STREAM_MESSAGES, Track4D, TurnRow, run_turn, see_clip
from track4d_ref.vlm import build_vlm, layout_of


def clip_of(frames: np.ndarray, first: int, fps: float) -> Clip:
    "A clip of some frames of a stream, its camera drifting forward."
    size = frames.shape[1]
    w2c = np.tile(np.eye(4), (len(frames), 1, 1))
    w2c[:, 2, 3] = -0.1 * (first + np.arange(len(frames)))
    K = np.array([[size, 0, size / 2], [0, size, size / 2], [0, 0, 1.0]])
    return Clip(id='stream', views=(View('front', K, w2c, size, size, frames=frames),), times_s=(first + np.arange(len(frames))) / fps, objects=(),
                up=np.array([0, -1.0, 0]), source='noise', licence='none')


def memory_mib() -> float:
    "Resident memory of this process now."
    with open('/proc/self/statm') as file: return int(file.read().split()[1]) * resource.getpagesize() / 2 ** 20


@torch.no_grad()
def read(model: Track4D, clip: Clip, state: torch.Tensor) -> torch.Tensor:
    "Read a clip with a state; the state after it."
    seen = see_clip(clip, layout_of(model.vlm))
    return run_turn(model, [TurnRow(seen, STREAM_MESSAGES)], model.see([seen]), state).step.state


def timed(model: Track4D, clip: Clip, state: torch.Tensor) -> tuple[float, torch.Tensor]:
    "Processor milliseconds per new frame (a pair is new) of reading a clip, and the state after it."
    began = time.process_time()
    after = read(model, clip, state)
    return 500 * (time.process_time() - began), after


def streamed(model: Track4D, pool: np.ndarray, fps: float, frames: int, every: int) -> list[dict]:
    "Every pair once, with the state: median time and memory of every block of `every` frames."
    state, rows, block = model.start(1), [], []
    for end in range(2, frames + 1, 2):
        spent, state = timed(model, clip_of(pool[np.arange(end - 2, end) % len(pool)], end - 2, fps), state)
        block.append(spent)
        if end % every == 0:
            rows.append({'frame': end, 'ms_per_frame': round(float(np.median(block)), 2), 'memory_mib': round(memory_mib(), 1)})
            block = []
            gc.collect()
    return rows


def reread(model: Track4D, pool: np.ndarray, fps: float, ends: range, window: int) -> list[dict]:
    "The last `window` frames (0: all) read again at some moments: median time of three, and memory."
    rows = []
    for end in ends:
        start = max(0, end - window) if window else 0
        clip = clip_of(pool[np.arange(start, end) % len(pool)], start, fps)
        spent = [timed(model, clip, model.start(1))[0] for _ in range(3)]
        rows.append({'frame': end, 'tokens': (end - start) // 2 * len(see_clip(clip_of(pool[:2], 0, fps), layout_of(model.vlm)).tags),
                     'ms_per_frame': round(float(np.median(spent)), 2), 'memory_mib': round(memory_mib(), 1)})
        gc.collect()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--frames', type=int, default=1000)
    parser.add_argument('--window', type=int, default=32)
    parser.add_argument('--most', type=int, default=160, help='frames up to which everything is read again')
    parser.add_argument('--out', required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    started, preset = time.perf_counter(), load_preset('tiny')
    tokenizer = train_tokenizer([message['content'] for message in STREAM_MESSAGES] * 9, 300)
    model = Track4D(build_vlm(preset, tokenizer), tokenizer).eval()
    pool = np.random.default_rng(0).integers(0, 256, (options.window, preset.resolution, preset.resolution, 3), dtype=np.uint8)
    read(model, clip_of(pool[:2], 0, preset.fps), model.start(1))
    result = {'state': streamed(model, pool, preset.fps, options.frames, options.frames // 10),
              f'last {options.window} frames again': reread(model, pool, preset.fps, range(options.window, options.frames + 1, options.frames // 4), options.window),
              'all frames again': reread(model, pool, preset.fps, range(options.most // 4, options.most + 1, options.most // 4), 0)}
    for name, rows in result.items(): print(name, rows[0], rows[-1], flush=True)
    command = f'python benchmarks/streaming.py --frames {options.frames} --window {options.window} --most {options.most}'
    write_json(options.out, {'result': result, 'state_bytes': model.start(1).nbytes, 'card': run_card(command, preset, 0, started=started)})


if __name__ == '__main__':
    main()
