"""Packed rows have the loss and the gradients of separate samples."""
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as library

from track4d_ref.packing import (ClipExample, answer_logits, ask_packed, attention_mask, collate, length_batches, pack, packed_hidden,
                                 packed_loss, padding_share, pick, split_dialogues, visual_features)
from track4d_ref.patches import Video
from track4d_ref.presets import load_preset
from track4d_ref.storage import InputError
from track4d_ref.tokens import IGNORE, train_tokenizer
from track4d_ref.vlm import ask, build_vlm, model_inputs

CORPUS = ['How does the camera move? forward left', 'Does it turn? Answer Yes or No.', 'frame 3: (0.41, 0.2)'] * 9
TOKENIZER = train_tokenizer(CORPUS, 350)
PRESET = load_preset('tiny', ('text_layers=3', 'text_width=96', 'text_heads=3', 'text_kv_heads=1', 'vision_layers=2',
                              'vision_width=48', 'vision_heads=2'))


def film(name, frames, height, width, seconds=0.7):
    rng = np.random.default_rng(frames * 1000 + height + width)
    return Video(name, rng.integers(0, 256, (frames, height, width, 3), dtype=np.uint8), seconds)


def talk(*texts): return tuple(dict(role=('user', 'assistant')[i % 2], content=text) for i, text in enumerate(texts))


ONE = ClipExample('one', (film('wide', 6, 56, 140),), (talk('How does the camera move?', 'forward left'), talk('Does it turn?', 'No'),
                                                       talk('Where?', 'left', 'And frame 3?', '(0.41, 0.2)')))
TWO = ClipExample('two', (film('tall', 4, 112, 56), film('short', 2, 28, 84, 0.1)), (talk('Does it turn? Answer Yes or No.', 'Yes'), talk('a', 'bc')))
BLIND = ClipExample('blind', (), (talk('How does the camera move?', 'left'),))


def own_precision(self, x): return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)


def own_rotation(query, key, cos, sin):
    cos, sin = cos.unsqueeze(-2).to(query.dtype), sin.unsqueeze(-2).to(query.dtype)
    return [value * cos + library.rotate_half(value) * sin for value in (query, key)]


def loud(dtype=torch.float32, factor=2.0):
    model = build_vlm(PRESET, TOKENIZER, seed=2).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2: parameter.mul_(factor)
    return model


def separate(model, examples):
    model.zero_grad(); total = 0.0
    for clip in examples:
        for dialogue in clip.dialogues:
            inputs = model_inputs(model, TOKENIZER, [(clip.videos, dialogue)])
            if clip.videos: inputs['pixel_values_videos'] = inputs['pixel_values_videos'].to(model.dtype)
            labels = inputs.pop('labels')
            loss = cross_entropy(model(**inputs).logits[0, :-1], labels[0, 1:])
            loss.backward(); total += loss.item()
    return total, {name: p.grad.clone() for name, p in model.named_parameters()}


def packed(model, examples):
    model.zero_grad()
    loss = packed_loss(model, collate(model, [pack(model, TOKENIZER, clip) for clip in examples], examples))
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize('dtype, limit', [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_loss_and_gradients_equal_separate_samples(dtype, limit):
    model = build_vlm(PRESET, TOKENIZER, seed=2).to(dtype)
    with patch.object(library.Qwen2_5_VLRMSNorm, 'forward', own_precision), patch.object(library, 'apply_rotary_pos_emb_vision', own_rotation):
        (loss_a, grad_a), (loss_b, grad_b) = separate(model, [ONE, TWO, BLIND]), packed(model, [ONE, TWO, BLIND])
    assert abs(loss_a - loss_b) < limit * 10
    assert max(float((grad_a[name] - grad_b[name]).abs().max()) for name in grad_a) < limit
    assert all(float(gradient.abs().max()) > 0 for name, gradient in grad_b.items() if not name.endswith('k_proj.bias'))


def test_gradient_checkpointing_changes_nothing():
    model = loud().train()
    plain = packed(model, [ONE, TWO])
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=dict(use_reentrant=False))
    saved = packed(model, [ONE, TWO])
    assert abs(plain[0] - saved[0]) < 1e-5 and all(torch.allclose(plain[1][name], saved[1][name], atol=1e-5) for name in plain[1])


def test_positions_restart_after_the_prefix_not_after_the_largest():
    model = build_vlm(PRESET, TOKENIZER)
    slow = replace(ONE, videos=(replace(ONE.videos[0], seconds_per_frame=9.0),))
    for example in (ONE, TWO, BLIND, slow):
        row = pack(model, TOKENIZER, example)
        reference = model_inputs(model, TOKENIZER, [(example.videos, example.dialogues[-1])])
        if example.videos:
            expected = model.model.get_rope_index(reference['input_ids'], reference['mm_token_type_ids'], video_grid_thw=reference['video_grid_thw'],
                                                  second_per_grid_ts=reference['second_per_grid_ts'])[0][:, 0]
        else: expected = torch.arange(reference['input_ids'].shape[1]).expand(3, -1)
        mine = row.positions[:, (row.segments == 0) | (row.segments == row.segments.max())]
        assert torch.equal(mine, expected)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30))
@settings(max_examples=40, deadline=None)
def test_mask_equals_the_rule(kinds):
    segments = sorted(kinds)
    mask = attention_mask(torch.tensor([segments]))[0, 0]
    for query in range(len(segments)):
        for key in range(len(segments)):
            assert bool(mask[query, key]) == (key <= query and segments[key] in (0, segments[query]))


def test_padding_rows_see_something_and_change_nothing():
    model = loud()
    rows = [pack(model, TOKENIZER, example) for example in (ONE, TWO)]
    batch = collate(model, rows, [ONE, TWO])
    assert attention_mask(batch.segments).any(-1).all() and batch.dialogues == 5
    with torch.no_grad():
        both = packed_loss(model, batch)
        apart = sum(packed_loss(model, collate(model, [row], [example])) for row, example in zip(rows, (ONE, TWO)))
    assert torch.isfinite(packed_hidden(model, batch)).all() and abs(float(both - apart)) < 1e-4


def test_dialogues_count_alike_whatever_their_length():
    row = pack(build_vlm(PRESET, TOKENIZER), TOKENIZER, ONE)
    for segment in (1, 2, 3): assert abs(float(row.weights[row.segments == segment].sum()) - 1) < 1e-12
    assert ((row.weights > 0) == (row.labels != IGNORE)).all()


def test_cached_features_are_the_tower():
    model = loud()
    rows = [pack(model, TOKENIZER, ONE)]
    with torch.no_grad():
        batch = collate(model, rows, [ONE])
        kept = collate(model, rows, [ONE], features=[visual_features(model, batch)])
        assert kept.pixels is None and float(packed_loss(model, kept)) == float(packed_loss(model, batch))


def test_too_long_is_refused_and_nothing_is_cut():
    model = build_vlm(PRESET, TOKENIZER)
    longest = max(int((pack(model, TOKENIZER, replace(ONE, dialogues=(d,))).ids.shape[0])) for d in ONE.dialogues)
    pack(model, TOKENIZER, ONE, most_tokens=longest)
    with pytest.raises(InputError, match='sample one.*exceed'): pack(model, TOKENIZER, ONE, most_tokens=longest - 1)


def test_packed_answers_are_the_librarys():
    model = loud(factor=4.0)
    waiting = [replace(clip, dialogues=tuple(d[:-1] for d in clip.dialogues)) for clip in (ONE, TWO, BLIND)]
    for clip, logits in zip(waiting, answer_logits(model, TOKENIZER, waiting)):
        assert ask_packed(model, TOKENIZER, clip, 5) == [ask(model, TOKENIZER, [(clip.videos, d)], 5)[0] for d in clip.dialogues]
        for dialogue, line in zip(clip.dialogues, logits):
            with torch.no_grad(): alone = model(**model_inputs(model, TOKENIZER, [(clip.videos, dialogue)])).logits[0, -1]
            torch.testing.assert_close(line, alone, atol=2e-3, rtol=1e-3)


def test_pick_compares_only_the_choices():
    logits = torch.zeros(len(TOKENIZER)); logits[TOKENIZER('No').input_ids[0]] = 1; logits[TOKENIZER('A').input_ids[0]] = 9
    assert pick(logits, TOKENIZER, ('Yes', 'No')) == 'No'
    with pytest.raises(InputError, match='same token'): pick(logits, TOKENIZER, ('No', 'No'))


@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_every_clip_once_per_epoch(count, batch, seed):
    lengths = np.random.default_rng(seed).integers(50, 500, count)
    batches = list(length_batches(lengths, batch, np.random.default_rng(seed)))
    assert sorted(np.concatenate(batches).tolist()) == list(range(count)) and max(map(len, batches)) <= batch
    assert 0 <= padding_share(lengths, batches) < 1


def test_split_keeps_order_and_video():
    parts = split_dialogues(ONE, 2)
    assert [len(part.dialogues) for part in parts] == [2, 1] and sum((p.dialogues for p in parts), ()) == ONE.dialogues
    assert all(part.videos is ONE.videos for part in parts)
