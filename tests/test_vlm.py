"""The tiny Qwen2.5-VL: built alike from a seed, saved and loaded bit by bit, and the same words on every path."""
import numpy as np
import pytest
import torch

from track4d_ref.patches import Video
from track4d_ref.presets import load_preset
from track4d_ref.storage import InputError
from track4d_ref.tokens import train_tokenizer
from track4d_ref.vlm import (ask, build_vlm, choose, layout_of, load_vlm, model_inputs, rope_sections, save_vlm, video_inputs,
                             video_token_counts)

CORPUS = ['How does the camera move? forward left', 'Does it turn? Answer Yes or No.'] * 9
TOKENIZER = train_tokenizer(CORPUS, 330)
PRESET = load_preset('tiny', ('text_layers=2', 'text_width=96', 'text_heads=3', 'text_kv_heads=1', 'vision_layers=2',
                              'vision_width=48', 'vision_heads=2'))


def film(frames, height, width, seconds=0.3, seed=0):
    return Video(f'film {seed}', np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8), seconds)


def user(text): return ({'role': 'user', 'content': text},)


@pytest.fixture(scope='module')
def model():
    model = build_vlm(PRESET, TOKENIZER, seed=5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2: parameter.mul_(4)        # an untrained model says one word; a loud one says many
    return model


def test_seed_decides_and_global_state_is_left_alone():
    torch.manual_seed(11); expected = torch.rand(3); torch.manual_seed(11)
    first, second, other = (build_vlm(PRESET, TOKENIZER, seed) for seed in (5, 5, 6))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters()))
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)


def test_words_are_tied_and_sizes_are_those_of_the_preset(model):
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert len(model.model.visual.blocks) == 2 and model.config.text_config.hidden_size == 96
    assert (layout_of(model).patch, layout_of(model).merge, layout_of(model).temporal) == (14, 2, 2)


@pytest.mark.parametrize('head', [24, 32, 64, 128])
def test_rope_sections_cover_the_head(head):
    sections = rope_sections(head)
    assert sum(sections) == head // 2 and min(sections) > 0 and sections[1] == sections[2]


def test_saved_and_loaded_computes_the_same(model, tmp_path):
    save_vlm(model, TOKENIZER, tmp_path / 'm')
    again, tokenizer = load_vlm(tmp_path / 'm')
    inputs = model_inputs(model, TOKENIZER, [((film(2, 56, 84),), user('How?'))])
    with torch.no_grad(): assert torch.equal(again(**inputs).logits, model(**inputs).logits)
    assert tokenizer.get_vocab() == TOKENIZER.get_vocab() and again.lm_head.weight is again.get_input_embeddings().weight


def test_half_precision_file_is_half_as_large(model, tmp_path):
    save_vlm(model, TOKENIZER, tmp_path / 'full'); save_vlm(model, TOKENIZER, tmp_path / 'half', torch.bfloat16)
    full, half = ((tmp_path / name / 'model.safetensors').stat().st_size for name in ('full', 'half'))
    assert 0.45 < half / full < 0.55
    assert next(load_vlm(tmp_path / 'half')[0].parameters()).dtype == torch.float32


def test_broken_folders_give_one_sentence(model, tmp_path):
    with pytest.raises(InputError, match='config.json'): load_vlm(tmp_path)
    save_vlm(model, TOKENIZER, tmp_path / 'm')
    (tmp_path / 'm' / 'model.safetensors').write_bytes(b'nonsense')
    with pytest.raises(InputError, match='cannot be read'): load_vlm(tmp_path / 'm')


def test_a_checkpoint_of_the_hub_that_is_not_here_names_the_fix(monkeypatch):
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    with pytest.raises(InputError, match='hf download nobody/no-such-model'): load_vlm('nobody/no-such-model')


@pytest.mark.parametrize('name, least, most', [('tiny', 2e6, 4e6), ('small', 2e7, 6e7)])
def test_sizes_of_the_presets(name, least, most):
    with torch.device('meta'): model = build_vlm(load_preset(name), TOKENIZER)
    assert least < sum(parameter.numel() for parameter in model.parameters()) < most


def test_the_real_size_on_meta_tensors():
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
    rope = dict(rope_type='default', rope_theta=1e6, mrope_section=rope_sections(128))
    text = dict(vocab_size=151936, hidden_size=2048, intermediate_size=11008, num_hidden_layers=36, num_attention_heads=16, num_key_value_heads=2,
                rope_parameters=rope)
    vision = dict(depth=32, hidden_size=1280, num_heads=16, intermediate_size=3420, out_hidden_size=2048, fullatt_block_indexes=[7, 15, 23, 31])
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True)
    with torch.device('meta'): model = Qwen2_5_VLForConditionalGeneration(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == 3_754_622_976      # as the published checkpoint
    assert video_token_counts(model, (film(32, 448, 448),)) == (4096,)


def test_too_long_is_refused_by_name(model):
    with pytest.raises(InputError, match='sample film 0.*frames instead of 1200'):
        model_inputs(model, TOKENIZER, [((film(1200, 56, 112),), user('How?'))])


def test_token_counts_match_the_tower(model):
    videos = (film(4, 56, 140), film(2, 84, 28, seed=1))
    features = model.model.visual(video_inputs(model, videos)['pixel_values_videos'], video_inputs(model, videos)['video_grid_thw']).pooler_output
    assert video_token_counts(model, videos) == (2 * 2 * 5, 3) and len(features) == 23


def test_padding_sides_give_the_same_answer_logits(model):
    samples = [((film(2, 56, 84),), user('How does it move?')), ((film(4, 56, 56, seed=1),), user('Yes?')), ((), user('No video here'))]
    for number, sample in enumerate(samples):
        together, alone = model_inputs(model, TOKENIZER, samples, pad_left=True), model_inputs(model, TOKENIZER, [sample])
        with torch.no_grad():
            torch.testing.assert_close(model(**together).logits[number, -1], model(**alone).logits[0, -1], atol=2e-4, rtol=1e-4)


def test_cached_batched_and_single_answers_agree(model):
    samples = [((film(2, 56, 84, seed=s),), user(text)) for s, text in enumerate(['How does the camera move?', 'Does it turn?', 'a'])]
    answers = ask(model, TOKENIZER, samples, most_words=6)
    assert answers == ask(model, TOKENIZER, samples, most_words=6, cached=False)
    assert answers == [ask(model, TOKENIZER, [sample], most_words=6)[0] for sample in samples]


def test_frame_rate_reaches_training_and_answering(model):
    def logits(seconds, cached):
        inputs = model_inputs(model, TOKENIZER, [((film(6, 56, 84, seconds),), user('How?'))], pad_left=True)
        labels = inputs.pop('labels')
        with torch.no_grad(): direct = model(**inputs).logits[0, -1]
        said = model.generate(**inputs, do_sample=False, max_new_tokens=2, use_cache=cached, output_logits=True,
                              return_dict_in_generate=True, pad_token_id=0).logits
        torch.testing.assert_close(direct, said[0][0], atol=2e-4, rtol=1e-4)
        return said[1]
    assert not torch.allclose(logits(0.3, True), logits(0.6, True))
    torch.testing.assert_close(logits(0.3, True), logits(0.3, False), atol=2e-4, rtol=1e-4)


def test_video_changes_the_loss_and_uneven_video_is_refused(model):
    talk = (*user('How?'), {'role': 'assistant', 'content': 'left'})
    losses = [float(model(**model_inputs(model, TOKENIZER, [((film(2, 56, 84, seed=s),), talk)])).loss.detach()) for s in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]
    with pytest.raises(InputError, match='film 3.*56 x 84'): model_inputs(model, TOKENIZER, [((film(2, 50, 90, seed=3),), talk)])


def test_choice_scores_are_log_probabilities(model):
    scores = choose(model, TOKENIZER, (film(2, 56, 84),), user('How?'), ('left', 'forward left', 'Yes'))
    talk = (*user('How?'), {'role': 'assistant', 'content': 'forward left'})
    inputs = model_inputs(model, TOKENIZER, [((film(2, 56, 84),), talk)])
    count = int((inputs['labels'] != -100).sum())
    with torch.no_grad(): loss = float(model(**inputs).loss)
    assert abs(float(scores[1]) + loss * count) < 1e-3 and (scores < 0).all()
