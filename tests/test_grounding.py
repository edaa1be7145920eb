"""What a mention is to know, where mentions are, and the loss that reads the one at the other."""
from dataclasses import replace

import numpy as np
import pytest
import torch

from track4d_ref.cameras import rotation_about
from track4d_ref.grounding import (CAMERA_FACTS, MOST_OBJECTS, OBJECT_FACTS, camera_truth, grounding_loss, listening, mention_ends, mention_places,
                                   new_readout, object_truth)
from track4d_ref.measurements import measure
from track4d_ref.packing import ClipExample, collate, pack, packed_loss
from track4d_ref.patches import Video
from track4d_ref.presets import load_preset
from track4d_ref.questions import Style, ask_all
from track4d_ref.simulator import simulate_clip
from track4d_ref.tokens import train_tokenizer
from track4d_ref.vlm import build_vlm

PRESET = load_preset('tiny', ('text_layers=3', 'vision_layers=1', 'text_width=48', 'text_heads=2', 'text_kv_heads=1', 'vision_width=32', 'vision_heads=2'))
STARTS = dict(zip(OBJECT_FACTS, np.cumsum([0, *OBJECT_FACTS.values()]).tolist()))


@pytest.fixture(scope='module')
def clip(): return simulate_clip(61, PRESET, 4, height=84, width=140)


@pytest.fixture(scope='module')
def asked(clip): return ask_all(clip, np.random.default_rng(1), per_type=2, style=Style(forms=('choice', 'yes_no', 'free'), modes=('caption', 'pixel', 'circle')))


def block(values, name): return values[:, STARTS[name]:STARTS[name] + OBJECT_FACTS[name]]


def test_facts_do_not_depend_on_where_the_world_begins(clip):
    m = measure(clip)
    turn = np.eye(4); turn[:3, :3] = rotation_about(clip.up, 0.7); turn[:3, 3] = (3.0, -2.0, 0.5)
    moved = replace(m, poses=turn @ m.poses, w2c=m.w2c @ np.linalg.inv(turn), camera_m=m.camera_m @ turn[:3, :3].T + turn[:3, 3])
    assert np.allclose(object_truth(moved)[0], object_truth(m)[0], atol=1e-4)
    assert np.allclose(camera_truth(moved), camera_truth(m), atol=1e-4)


def test_a_camera_at_rest_has_moved_nowhere(clip):
    m = measure(clip)
    still = replace(m, w2c=np.repeat(m.w2c[:1], len(m.w2c), 0), camera_m=np.repeat(m.camera_m[:1], len(m.w2c), 0))
    assert camera_truth(still).shape == (sum(CAMERA_FACTS.values()),) and np.allclose(camera_truth(still), 0, atol=1e-6)
    assert np.allclose(block(object_truth(still)[0], 'displacement'), block(object_truth(m)[0], 'displacement'), atol=1e-6)


def test_what_cannot_be_seen_is_not_asked(clip):
    m = measure(clip)
    hidden = replace(m, visible_px=np.zeros_like(m.visible_px))
    weights = object_truth(hidden)[1]
    assert not any(block(weights, name).any() for name in ('place', 'log_distance', 'position'))
    assert block(weights, 'displacement')[:len(clip.objects)].all() and not weights[len(clip.objects):].any()


def test_every_reference_is_found_in_its_question(clip, asked):
    captions = {item.id: item.caption for item in clip.objects}
    order = {item.id: number for number, item in enumerate(clip.objects)}
    for question in asked:
        if question.category == 'tracking': continue
        ends = mention_ends(question.prompt, question.references, captions)
        assert {number for _, number in ends} == {order[reference['object']] for reference in question.references}
        for reference in question.references:
            if reference['mode'] != 'caption': continue
            assert any(question.prompt[:end].endswith(captions[reference['object']]) for end, _ in ends)


@pytest.mark.parametrize('text, ends', [('the red ball and the red ball', [(12, 0), (29, 0)]), ('a red ball', []), ('The red ball', [])])
def test_mentions_table(text, ends):
    reference = dict(object=7, label='ball', mode='caption', frame=0, uv=None)
    assert mention_ends(text, [reference], {7: 'red ball'}) == ends


def lesson(clip, asked):
    asked = [question for question in asked if question.category != 'tracking'][:6]
    tokenizer = train_tokenizer([question.prompt for question in asked] * 3, 500)
    turns = tuple(({'role': 'user', 'content': q.prompt}, {'role': 'assistant', 'content': q.answer}) for q in asked)
    captions = {item.id: item.caption for item in clip.objects}
    marks = [mention_ends(q.prompt, q.references, captions) for q in asked]
    return tokenizer, ClipExample('c', (Video('c', clip.view.frames, 0.25),), turns), [q.prompt for q in asked], marks


def test_places_are_the_last_tokens_of_mentions(clip, asked):
    tokenizer, example, prompts, marks = lesson(clip, asked)
    row = pack(build_vlm(PRESET, tokenizer), tokenizer, example)
    places = mention_places(tokenizer, row, prompts, marks)
    wanted = [prompt[:end][-3:] for prompt, ends in zip(prompts, marks) for end, _ in ends]
    assert len(places) == len(wanted) > 3
    assert all(tokenizer.decode(row.ids[place - 4:place + 1]).endswith(text) for (place, _), text in zip(places, wanted))


def test_a_batch_is_the_sum_of_its_clips_and_listening_leaves_no_trace(clip, asked):
    tokenizer, example, prompts, marks = lesson(clip, asked)
    model = build_vlm(PRESET, tokenizer)
    readout, m = new_readout(model, 0), measure(clip)
    truth = [torch.from_numpy(part)[None] for part in (*object_truth(m), camera_truth(m))]
    def losses(copies):
        row = pack(model, tokenizer, example)
        rows, batch = [row] * copies, collate(model, [row] * copies, [example] * copies)
        with listening(model) as heard: packed_loss(model, batch)
        places = [mention_places(tokenizer, row, prompts, marks)] * copies
        return torch.stack(grounding_loss(readout, heard[0], rows, places, *(part.repeat(copies, *[1] * (part.ndim - 1)) for part in truth)))
    one, three = losses(1), losses(3)
    assert torch.allclose(3 * one, three, rtol=1e-4) and (one > 0).all()
    assert not any(layer._forward_hooks for layer in model.model.language_model.layers)
    assert truth[0].shape == (1, MOST_OBJECTS, sum(OBJECT_FACTS.values()))
    nothing = grounding_loss(readout, torch.zeros(1, 400, 48), [pack(model, tokenizer, example)], [[]], *truth)
    assert nothing[0] == 0 and nothing[1] > 0
