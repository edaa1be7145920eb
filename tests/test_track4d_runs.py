"""Runs of LMM-Track4D that refuse to mix, the benchmark folder, pooling, and the shipped form."""
from dataclasses import replace

import numpy as np
import pytest
import torch

from track4d_ref.dialogue_packing import PackedReading, pack_turns
from track4d_ref.dialogue_sets import history, in_test, load_dialogues
from track4d_ref.dialogues import make_dialogue
from track4d_ref.patches import PatchLayout
from track4d_ref.presets import load_preset
from track4d_ref.simulator import simulate_clip
from track4d_ref.storage import InputError
from track4d_ref.tokens import train_tokenizer
from track4d_ref.track4d import Track4D, Track4DConfig, TurnRow, run_turn, shown_grids, shown_tokens
from track4d_ref.track4d_bench import write_benchmark
from track4d_ref.track4d_runs import claim_run, load_small, save_small, train_run, write_losses
from track4d_ref.track4d_training import dialogue_loss, make_lesson, turn_messages
from track4d_ref.vlm import build_vlm, save_vlm

torch.set_num_threads(1)


def test_a_run_folder_keeps_its_first_wish(tmp_path):
    claim_run(tmp_path, {'plan': {'steps': 3}})
    claim_run(tmp_path, {'plan': {'steps': 3}})
    with pytest.raises(InputError, match='another plan'): claim_run(tmp_path, {'plan': {'steps': 4}})
    write_losses(tmp_path / 'log.csv', [{'iteration': 0, 'words': 1.0}, {'iteration': 1, 'words': 0.5, 'focus': 2.0}])
    assert (tmp_path / 'log.csv').read_text().splitlines() == ['iteration,words,focus', '0,1.0000,', '1,0.5000,2.0000']


def test_benchmark_folder_goes_on_and_splits_by_scene(tmp_path):
    preset = load_preset('tiny', ('resolution=56',))
    card = write_benchmark(tmp_path, preset, entries=3, each=2, progress=False)
    (tmp_path / 'parts' / '002.jsonl').unlink()
    assert write_benchmark(tmp_path, preset, entries=3, each=2, progress=False)['card']['data_hash'] == card['card']['data_hash']
    assert not any(in_test(d.scene) for d in load_dialogues(tmp_path / 'train.jsonl'))
    assert card['counts']['train']['dialogues'] + card['counts']['test']['dialogues'] == 3


def test_a_base_that_is_none_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match='is no folder of a model'): train_run(tmp_path, load_preset('tiny'), tmp_path / 'nothing')


# --- what the language model sees, and the shipped form ---------------------------------------------------------------

SMALL = load_preset('tiny', ('resolution=64', 'patch_size=8', 'text_width=48', 'text_layers=2', 'text_heads=4', 'text_kv_heads=2', 'vision_width=32', 'vision_layers=1'))


@pytest.fixture(scope='module')
def pooled():
    clip = simulate_clip(4, SMALL, 0, rig='ring', domain='open', smooth=False, objects=3, min_visible=0.004)
    dialogue = make_dialogue(clip, np.random.default_rng(0))
    tokenizer = train_tokenizer([m['content'] for m in history(dialogue, 9, 'gold')] * 6, 350)
    model = Track4D(build_vlm(SMALL, tokenizer), tokenizer, Track4DConfig(width=24, state_width=16, slots=3, pool=2))
    return model, make_lesson(clip, dialogue, PatchLayout(8, 2, 2))


def test_pooled_tokens_are_means_of_neighbours(pooled):
    model, lesson = pooled
    tokens = torch.randn(len(lesson.seen.tags), 48)
    shown = shown_tokens(model, lesson.seen, tokens)
    grid = tokens.reshape(2, 4, 4, 4, 48)                                    # view, pair, row, column
    naive = [grid[v, t, 2 * r:2 * r + 2, 2 * c:2 * c + 2].mean((0, 1)) for v in range(2) for t in range(4) for r in range(2) for c in range(2)]
    assert torch.allclose(shown, torch.stack(naive), atol=1e-6) and shown_grids(model, lesson.seen) == [(4, 4, 4)] * 2
    model.config = replace(model.config, pool=3)
    with pytest.raises(InputError, match='pool = 3 does not divide'): shown_grids(model, lesson.seen)
    model.config = replace(model.config, pool=2)


def test_packed_and_single_turns_agree_with_pooling(pooled):
    model, lesson = pooled
    with torch.no_grad():
        tokens = model.see([lesson.seen])
        messages = turn_messages(lesson, 0, ())
        alone = run_turn(model, [TurnRow(lesson.seen, messages)], tokens, model.start(1))
        packed = pack_turns(model, [lesson.seen], [[messages]])
        reading = PackedReading(model, packed, [shown_tokens(model, lesson.seen, tokens[0])])
        at_word = model.heard(reading.branch(0, torch.tensor([0]), model.start(1)), [messages[0]["content"]])
    assert torch.allclose(alone.hidden, at_word, atol=1e-4) and packed.ids.shape[1] == alone.logits.shape[1]
    losses = dialogue_loss(model, [lesson])
    assert torch.isfinite(losses['total'])


def test_a_shipped_model_answers_alike_and_takes_the_tower_from_its_base(pooled, tmp_path):
    model, lesson = pooled
    save_vlm(model.vlm, model.tokenizer, tmp_path / 'base')
    save_small(model, tmp_path / 'whole')
    save_small(model, tmp_path / 'small', '../base')
    size = lambda name: (tmp_path / name / 'small.safetensors').stat().st_size
    with torch.no_grad():
        losses = [float(dialogue_loss(one, [lesson])['total']) for one in (model, load_small(tmp_path / 'whole'), load_small(tmp_path / 'small'))]
    assert size('small') < size('whole') and losses == pytest.approx([losses[0]] * 3, rel=0.01)
    (tmp_path / 'small' / 'small.safetensors').write_bytes(b'nothing')
    with pytest.raises(InputError, match='is no shipped LMM-Track4D'): load_small(tmp_path / 'small')
