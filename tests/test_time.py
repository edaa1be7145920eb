"""Seconds reach the language model on every path: twice the frame rate is exactly half the encoded time."""
import numpy as np
import pytest
import torch

from track4d_ref.packing import ClipExample, ask_packed, collate, pack, packed_loss
from track4d_ref.patches import Video
from track4d_ref.presets import load_preset
from track4d_ref.tokens import train_tokenizer
from track4d_ref.vlm import ask, build_vlm, choose, model_inputs

TOKENIZER = train_tokenizer(['How does it move? left right Yes No'] * 9, 320)
MODEL = build_vlm(load_preset('tiny', ('text_layers=1', 'text_width=48', 'text_heads=2', 'text_kv_heads=1', 'vision_layers=1',
                                       'vision_width=32', 'vision_heads=2')), TOKENIZER)
QUESTION, ANSWER = ({'role': 'user', 'content': 'How does it move?'},), {'role': 'assistant', 'content': 'left'}
FRAMES = np.random.default_rng(0).integers(0, 256, (6, 56, 84, 3), dtype=np.uint8)


def packed(video, train):
    example = ClipExample('film', (video,), ((*QUESTION, ANSWER) if train else QUESTION, QUESTION))
    if not train: return ask_packed(MODEL, TOKENIZER, example, most_words=2)
    row = pack(MODEL, TOKENIZER, example)
    return packed_loss(MODEL, collate(MODEL, [row], [example])).backward()


PATHS = {
    'training': lambda video: MODEL(**model_inputs(MODEL, TOKENIZER, [((video,), (*QUESTION, ANSWER))])).loss.backward(),
    'answering with a cache': lambda video: ask(MODEL, TOKENIZER, [((video,), QUESTION)], most_words=3),
    'answering without': lambda video: ask(MODEL, TOKENIZER, [((video,), QUESTION)], most_words=3, cached=False),
    'choosing': lambda video: choose(MODEL, TOKENIZER, (video,), QUESTION, ('left', 'right')),
    'packed training': lambda video: packed(video, True),
    'packed answering': lambda video: packed(video, False),
}


def positions(path, seconds):
    "Positions (3, L) of the first row, in the first call of the language model."
    caught = []
    hook = MODEL.model.language_model.register_forward_pre_hook(lambda module, args, named: caught.append(named['position_ids']), with_kwargs=True)
    PATHS[path](Video('film', FRAMES, seconds)); hook.remove(); MODEL.zero_grad()
    return caught[0][-3:, 0]


@pytest.mark.parametrize('path', PATHS)
def test_twice_the_frame_rate_is_half_the_time(path):
    slow, fast = positions(path, 1.0), positions(path, 0.5)
    start = int((slow[0] != slow[2]).nonzero()[0]) - 1                              # the first visual token has all three alike
    video = slice(start, start + 3 * 2 * 3)
    slow_time, fast_time = (found[0, video] - found[0, start] for found in (slow, fast))
    assert sorted(set(slow_time.tolist())) == [0, 8, 16] and torch.equal(slow_time, 2 * fast_time)
    assert torch.equal(slow[1:, video], fast[1:, video])
