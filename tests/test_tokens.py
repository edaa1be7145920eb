"""The tokenizer loses nothing, the template is Qwen's, and only the assistant's words are learned."""
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unicodedata import normalize

from track4d_ref.storage import InputError
from track4d_ref.tokens import (IGNORE, SPECIAL_TOKENS, answer_ids, chat_ids, is_hub_name, label_mask_html, load_tokenizer, prefix_ids, prefix_text,
                                save_tokenizer, segment_pieces, strip_video_marks, train_tokenizer)

CORPUS = ['How does the camera move? A. forward B. pan right', 'frame 17: (0.412, 0.587) visible', 'Answer Yes or No.'] * 7
TOKENIZER = train_tokenizer(CORPUS, 333)


def talk(*texts): return tuple(dict(role=('user', 'assistant')[i % 2], content=text) for i, text in enumerate(texts))


@given(st.text(max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_text_survives(text):
    if any(token in text for token in SPECIAL_TOKENS): return
    assert TOKENIZER.decode(TOKENIZER(text).input_ids) == normalize('NFC', text)


@given(st.integers(0, 10 ** 12))
@settings(max_examples=30, deadline=None)
def test_digits_stand_apart(number): assert len(TOKENIZER.tokenize(str(number))) == len(str(number))


@pytest.mark.parametrize('token', SPECIAL_TOKENS)
def test_special_tokens_are_one_token(token): assert len(TOKENIZER(token).input_ids) == 1


def test_vocabulary_is_bounded_and_deterministic():
    assert len(TOKENIZER) <= 333
    assert train_tokenizer(CORPUS, 333).get_vocab() == TOKENIZER.get_vocab()


def test_too_small_vocabulary_names_the_number():
    with pytest.raises(InputError, match='vocabulary = 40'): train_tokenizer(CORPUS, 40)


def test_saved_and_loaded(tmp_path):
    save_tokenizer(TOKENIZER, tmp_path / 'tokenizer')
    again = load_tokenizer(tmp_path / 'tokenizer')
    assert again.get_vocab() == TOKENIZER.get_vocab() and again.eos_token == '<|im_end|>'
    assert again('0.41 camera 漢').input_ids == TOKENIZER('0.41 camera 漢').input_ids


def test_missing_and_broken_tokenizer(tmp_path):
    with pytest.raises(InputError, match='tokenizer.json'): load_tokenizer(tmp_path)
    (tmp_path / 'tokenizer.json').write_text('{not json')
    with pytest.raises(InputError, match='not readable'): load_tokenizer(tmp_path)


@pytest.mark.parametrize('name, remote', [('Qwen/Qwen2.5-VL-3B-Instruct', True), ('runs', False), ('./runs/model', False), ('a/b/c', False),
                                          ('../models/tiny', False), ('tests/nothing', False), ('two words/model', False)])
def test_names_of_the_hub_are_told_from_folders(name, remote, monkeypatch):
    monkeypatch.chdir(Path(__file__).parent.parent)
    assert is_hub_name(name) == remote


@pytest.mark.parametrize('content, bare', [('<video>\nWhy?', 'Why?'), ('<video><video>\nWhy?', 'Why?'), ('Why?', 'Why?'), ('<video>', '')])
def test_video_marks_are_stripped(content, bare): assert strip_video_marks(content) == bare


def test_prefix_has_one_block_of_pads_per_video():
    text = prefix_text((3, 5))
    assert text.count('<|video_pad|>') == 8 and text.count('<|vision_start|>') == 2 and text.endswith('<|vision_end|>')
    assert prefix_text().endswith('<|im_start|>user\n')
    assert prefix_ids(TOKENIZER, (3, 5)).count(TOKENIZER.convert_tokens_to_ids('<|video_pad|>')) == 8


def test_labels_are_exactly_the_assistants_words():
    ids, labels = chat_ids(TOKENIZER, talk('<video>\nHow?', 'pan right', 'And 7?', 'Yes'))
    assert TOKENIZER.decode([label for label in labels if label != IGNORE]) == 'pan right<|im_end|>Yes<|im_end|>'
    assert all(label in (IGNORE, token) for token, label in zip(ids, labels))
    assert TOKENIZER.decode(ids).startswith('How?<|im_end|>\n<|im_start|>assistant\npan right<|im_end|>\n<|im_start|>user\nAnd 7?')


def test_open_dialogue_has_no_labels():
    ids, labels = chat_ids(TOKENIZER, talk('How?'))
    assert set(labels) == {IGNORE} and TOKENIZER.decode(ids).endswith('<|im_start|>assistant\n')


def test_answer_continues_the_open_dialogue():
    ids, _ = chat_ids(TOKENIZER, talk('How?'))
    closed, _ = chat_ids(TOKENIZER, talk('How?', 'pan right'))
    assert closed == ids + answer_ids(TOKENIZER, 'pan right') + [TOKENIZER.eos_token_id]


@pytest.mark.parametrize('messages', [
    (), ({'role': 'assistant', 'content': 'hi'},), ({'role': 'user', 'content': 'a'}, {'role': 'user', 'content': 'b'}),
    ({'role': 'system', 'content': 'a'},), talk('a<|im_end|>'), talk('a', '<|im_start|>'), talk('a <video>')])
def test_refused_dialogues_are_named(messages):
    with pytest.raises(InputError, match='sample 17'): segment_pieces(messages, 'sample 17')


def test_mask_page_escapes_and_marks():
    ids, labels = chat_ids(TOKENIZER, talk('<b>?', 'Yes'))
    page = label_mask_html(TOKENIZER, prefix_ids(TOKENIZER, (9,)) + ids, [IGNORE] * len(prefix_ids(TOKENIZER, (9,))) + labels)
    assert '<b>' not in page and '× 9' in page and page.count('#b7e4c7') == sum(label != IGNORE for label in labels)
