"""Memory by formula and by meter; a preflight that measures, refuses, decodes, steps, and leaves everything as it was."""
from dataclasses import replace

import numpy as np
import pytest
import torch

from test_sft import EXAMPLES, PRESET, TOKENIZER, fresh
from track4d_ref.adapters import AdapterPlan, add_adapter
from track4d_ref.memory import LiveBytes, RowShape, layer_bytes, memory_table, row_shape, standing_bytes
from track4d_ref.packing import pack
from track4d_ref.preflight import config_table, duration, fly, mask_text, measure_lengths, read_config
from track4d_ref.presets import load_preset
from track4d_ref.real_sizes import real_config
from track4d_ref.sft import TrainPlan
from track4d_ref.storage import InputError

PLAN, ROW = AdapterPlan(rank=16, quantize='nf4'), RowShape(4112, 24, 60, 96, 16384)


def test_meter_counts_storages_once_and_forgets_the_dead():
    with LiveBytes() as meter:
        kept = torch.ones(100, 5)
        view = kept[:50].T; view.add_(1)
        for _ in range(3): del_me = kept * 2
        del del_me
    assert (meter.now, meter.peak) == (2000, 6000)             # the next product is made while the last one still lives


def test_standing_bytes_by_hand():
    parts = standing_bytes(real_config('3B'), PLAN, 'adamw')
    each = 36 * 16 * (2 * (2048 + 2048) + 2 * (2048 + 256) + 3 * (2048 + 11008))
    assert parts['adapters'] == parts['gradients'] == 4 * each and parts['optimiser'] == 8 * each
    assert abs(parts['matrices'] / 2_774_532_096 * 8 - 4.127) < 1e-3
    assert standing_bytes(real_config('3B'), None)['trained weights'] == 4 * (3_754_622_976 - 668_684_288)
    assert standing_bytes(real_config('3B'), replace(PLAN, quantize='none'))['matrices'] == 2 * 2_774_532_096


@pytest.mark.parametrize('change, more', [(dict(questions=48), True), (dict(prefix=8000), True), (dict(longest=90), True), (dict(questions=12), False)])
def test_longer_rows_need_more(change, more):
    config = real_config('3B', 2)
    before, after = (layer_bytes(config, row, PLAN).total for row in (ROW, replace(ROW, **change)))
    assert (after > before) == more and layer_bytes(config, ROW, replace(PLAN, dropout=0.05)).total > before
    assert memory_table(config, ROW, PLAN, checkpointing=False)['peak'] > memory_table(config, ROW, PLAN)['peak']


def test_row_shape_reads_a_packed_row():
    row = pack(fresh(), TOKENIZER, EXAMPLES[2])
    shape = row_shape(row, 16)
    assert shape.questions == 3 and shape.prefix == int((row.segments == 0).sum()) and shape.learned == int((row.labels >= 0).sum())
    assert shape.longest == max(int((row.segments == n).sum()) for n in (1, 2, 3))


def test_lengths_name_every_sample_that_does_not_fit():
    model, wordy = fresh(), ({'role': 'user', 'content': 'Which way does it go? ' * 9}, {'role': 'assistant', 'content': 'left'})
    examples = [*EXAMPLES[:5], *(replace(EXAMPLES[n], name=f'wordy {n}', dialogues=(wordy,)) for n in (5, 6))]
    every = measure_lengths(model, TOKENIZER, examples, 999)
    longest = every.summary()['longest_sample']
    some = measure_lengths(model, TOKENIZER, examples, longest - 1)
    assert every.refused == [] and some.places == [0, 1, 2, 3, 4] and len(some.refused) == 2
    assert all('sample wordy' in sentence and 'exceed' in sentence for sentence in some.refused)
    assert every.summary()['questions'] == sum(len(example.dialogues) for example in examples)
    with pytest.raises(InputError, match='no sample fits'): measure_lengths(model, TOKENIZER, EXAMPLES, 20)


def test_mask_is_read_back_from_the_numbers():
    row = pack(fresh(), TOKENIZER, EXAMPLES[2])
    told = mask_text(TOKENIZER, row, 3)
    answers = [dialogue[1]['content'] for dialogue in EXAMPLES[2].dialogues]
    assert [part.split('⟧')[0] for part in told.split('⟦')[1:]] == [f'{answer}<|im_end|>' for answer in answers]
    assert '<|video_pad|> × 2' in told and told.count('⟦') == told.count('⟧') == 3
    shifted = replace(row, labels=torch.roll(row.labels, 1))                        # the mistake it is there to show
    assert f'⟦{answers[0]}<|im_end|>⟧' not in mask_text(TOKENIZER, shifted, 3)


@pytest.mark.parametrize('quantize', [None, 'none', 'nf4'])
def test_a_flight_leaves_no_trace(quantize):
    model = fresh()
    if quantize:
        pytest.importorskip('peft'); pytest.importorskip('bitsandbytes')
        model = add_adapter(model, AdapterPlan(rank=2, quantize=quantize))
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    plan = TrainPlan(optimizer='adamw' if quantize else 'muon', freeze_vision=True, batch_clips=5)
    found = fly(model, TOKENIZER, EXAMPLES, measure_lengths(model, TOKENIZER, EXAMPLES, 999), plan, 999)
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
    assert np.isfinite(found['first_loss']) and found['gradient_norm'] > 0 and found['steps_per_epoch'] == 5
    assert found['step_peak'] > 0 and found['epoch_seconds'] > 0 and found['kept_features_bytes'] == len(EXAMPLES) * 2 * 48 * 4


def test_config_alone_makes_a_table(tmp_path):
    preset = load_preset('rtx24')
    row, table = config_table('3B', preset)
    assert row.length == 4096 + 16 + 24 * 60 and table['peak'] < 24e9 < memory_table(real_config('3B'), row, None)['peak']
    fresh().config.save_pretrained(tmp_path)
    assert config_table(tmp_path, PRESET)[1]['peak'] == config_table(tmp_path / 'config.json', PRESET)[1]['peak']
    (tmp_path / 'other.json').write_text('{"model_type": "llama"}')
    with pytest.raises(InputError, match='model_type'): read_config(tmp_path / 'other.json')
    with pytest.raises(InputError, match='3B, 7B'): read_config(tmp_path / 'nowhere.json')


def test_durations_are_said_as_a_person_says_them():
    assert [duration(seconds) for seconds in (1.26, 89, 600, 7200)] == ['1.3 s', '89.0 s', '10.0 min', '2.0 h']
