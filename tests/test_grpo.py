"""Rollouts and the GRPO objective: shared = separate, formula = loops = TRL, resumed = whole."""
import contextlib
import copy
import dataclasses
import importlib.util

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from track4d_ref.grpo import (PUBLISHED, GrpoSettings, Task, group_advantages, grpo_loss, reference_logps, sampled_reward,
                              train_grpo)
from track4d_ref.packing import ClipExample, collate, pack, tower_states
from track4d_ref.patches import Video
from track4d_ref.presets import load_preset
from track4d_ref.rollouts import Group, completion_logps, pack_group, rollouts, sample_words
from track4d_ref.storage import InputError
from track4d_ref.tokens import train_tokenizer
from track4d_ref.vlm import build_vlm, model_inputs

torch.set_num_threads(1)
PRESET = load_preset('tiny', ('text_layers=2', 'text_width=96', 'vision_layers=1', 'vision_width=48'))
TEXT = 'Which way does the red ball move? A. left B. right C. up D. down Answer with the letter.'
seeded = lambda seed: torch.Generator().manual_seed(seed)


@pytest.fixture(scope='module')
def tokenizer(): return train_tokenizer([TEXT] * 9, 300)


def lively(tokenizer, seed=0):
    model = build_vlm(PRESET, tokenizer, seed=seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2: parameter.mul_(2)
    return model


@pytest.fixture(scope='module')
def model(tokenizer): return lively(tokenizer)


@pytest.fixture(scope='module')
def prompts():
    rng = np.random.default_rng(0)
    film = lambda name, *size: Video(name, rng.integers(0, 256, (*size, 3), dtype=np.uint8), 0.25)
    ask = lambda text: (({'role': 'user', 'content': text},),)
    return [ClipExample('one', (film('one', 4, 84, 56),), ask(TEXT)), ClipExample('two', (film('two', 2, 56, 112),), ask('Which way?'))]


def group_of(prompt, lengths, seed=0):
    rng = np.random.default_rng(seed)
    ids = tuple(torch.tensor(rng.integers(10, 290, length)) for length in lengths)
    return Group(prompt, ids, ('',) * len(ids), (False,) * len(ids))


def separate_logps(model, tokenizer, group):
    for ids in group.completions:
        inputs = model_inputs(model, tokenizer, [(group.prompt.videos, group.prompt.dialogues[0])])
        front = inputs['input_ids'].shape[1]
        inputs['input_ids'] = torch.cat([inputs['input_ids'], ids[None]], 1)
        inputs['attention_mask'] = torch.ones_like(inputs['input_ids'])
        inputs['mm_token_type_ids'] = (inputs['input_ids'] == model.config.video_token_id).int() * 2
        inputs.pop('labels')
        yield torch.log_softmax(model(**inputs).logits[0, front - 1:-1], -1).gather(-1, ids[:, None])[:, 0]


# --- rollouts -----------------------------------------------------------------------------------------------------------

def test_top_p_keeps_the_word_that_crosses_and_temperature_sharpens():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(8000, -1)
    share = lambda **options: torch.bincount(sample_words(logits, seeded(0), **options), minlength=4) / 8000
    assert share(top_p=0.6)[2:].sum() == 0 and share(top_p=0.6)[1] == pytest.approx(0.375, abs=0.03)
    assert share(top_p=0.01)[0] == 1 and share()[3] == pytest.approx(0.05, abs=0.01)
    assert share(temperature=0.5)[0] == pytest.approx(0.25 / 0.365, abs=0.03) and share(temperature=0)[0] == 1


def test_the_same_generator_gives_the_same_words(model, tokenizer, prompts):
    words = [[ids.tolist() for group in rollouts(model, tokenizer, prompts, 3, 5, seeded(seed)) for ids in group.completions] for seed in (1, 1, 2)]
    assert words[0] == words[1] != words[2] and len(words[0]) == 6


def test_cold_rollouts_are_the_librarys_words(model, tokenizer, prompts):
    for group in rollouts(model, tokenizer, prompts, 2, 6, seeded(0), temperature=0):
        inputs = model_inputs(model, tokenizer, [(group.prompt.videos, group.prompt.dialogues[0])])
        inputs.pop('labels')
        with torch.no_grad(): out = model.generate(**inputs, do_sample=False, max_new_tokens=6, pad_token_id=tokenizer.pad_token_id)
        for ids in group.completions: assert ids.tolist() == out[0, inputs['input_ids'].shape[1]:][:len(ids)].tolist()


def test_completions_end_after_their_end_token(model, tokenizer, prompts):
    class Once:
        eos_token_id = int(rollouts(model, tokenizer, prompts[:1], 1, 1, seeded(0), temperature=0)[0].completions[0][0])
        def __getattr__(self, name): return getattr(tokenizer, name)
        def __call__(self, *a, **k): return tokenizer(*a, **k)
    group = rollouts(model, Once(), prompts[:1], 2, 9, seeded(0), temperature=0)[0]
    assert [len(ids) for ids in group.completions] == [1, 1] and group.finished == (True, True)


def test_a_prompt_must_wait_for_an_answer(model, tokenizer, prompts):
    answered = dataclasses.replace(prompts[0], dialogues=((*prompts[0].dialogues[0], {'role': 'assistant', 'content': 'A'}),))
    with pytest.raises(InputError, match='prompt one'): rollouts(model, tokenizer, [answered], 2, 3, seeded(0))


def test_packed_groups_equal_separate_rows_with_gradients(model, tokenizer, prompts):
    groups = [group_of(prompts[0], (7, 1, 4)), group_of(prompts[1], (2, 9), 1)]
    together, mask = completion_logps(model, tokenizer, groups)
    apart = [logps for group in groups for logps in separate_logps(model, tokenizer, group)]
    assert mask.sum(1).tolist() == [7, 1, 4, 2, 9]
    for row, logps in zip(together, apart): assert torch.allclose(row[:len(logps)], logps, atol=2e-5)
    weights = torch.linspace(-1, 1, 5)
    def gradient(values):
        model.zero_grad()
        sum(weight * value.sum() for weight, value in zip(weights, values)).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])
    packed, single = gradient([row[:len(logps)] for row, logps in zip(together, apart)]), gradient(apart)
    assert (packed - single).abs().max() / single.abs().max() < 1e-5


def test_other_completions_do_not_matter(model, tokenizer, prompts):
    group = group_of(prompts[0], (5, 3, 8))
    alone = dataclasses.replace(group, completions=group.completions[2:], texts=('',), finished=(False,))
    with torch.no_grad():
        assert torch.allclose(completion_logps(model, tokenizer, [group])[0][2], completion_logps(model, tokenizer, [alone])[0][0], atol=1e-5)
    assert pack_group(model, tokenizer, group).lengths == (5, 3, 8)


def test_kept_states_of_the_tower_change_nothing(model, tokenizer, prompts):
    kept = {}
    for prompt in prompts:
        with torch.no_grad(): kept[prompt.name] = tower_states(model, collate(model, [pack(model, tokenizer, prompt)], [prompt]))
    states = lambda prompt: kept[prompt.name]
    plain, fast = (rollouts(model, tokenizer, prompts, 3, 6, seeded(2), states=given) for given in (None, states))
    assert all(torch.equal(a, b) for one, two in zip(plain, fast) for a, b in zip(one.completions, two.completions))
    slow, quick = (completion_logps(model, tokenizer, plain, states=given)[0] for given in (None, states))
    assert torch.allclose(slow, quick, atol=1e-5)


# --- objective ----------------------------------------------------------------------------------------------------------

def test_advantages():
    advantages, alive = group_advantages(torch.tensor([[1.0, 0, 0, 0], [0.7, 0.7, 0.7, 0.7]]))
    assert torch.allclose(advantages[0], torch.tensor([0.75, -0.25, -0.25, -0.25]) / (0.5 + 1e-4)) and (advantages[1].abs() < 1e-3).all()
    assert alive.tolist() == [True, False]
    with pytest.raises(InputError, match='at least 2'): group_advantages(torch.ones(3, 1))


def loops(new, old, reference, gains, mask, clip, kl):
    answers = []
    for i in range(len(new)):
        words = []
        for s in range(int(mask[i].sum())):
            ratio, d = np.exp(new[i, s] - old[i, s]), reference[i, s] - new[i, s]
            words.append(-min(ratio * gains[i], np.clip(ratio, 1 - clip, 1 + clip) * gains[i]) + kl * (np.exp(d) - d - 1))
        answers.append(np.mean(words))
    return np.mean(answers)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10 ** 6), st.floats(0.05, 0.4), st.floats(0, 1))
def test_loss_equals_loops(seed, clip, kl):
    rng = np.random.default_rng(seed)
    new, old, reference = -rng.exponential(1, (3, 5, 7))
    gains, mask = rng.normal(size=5), (np.arange(7) < rng.integers(1, 8, (5, 1))).astype(float)
    loss, watch = grpo_loss(*map(torch.tensor, (new, old, reference, gains, mask)), clip, kl)
    assert loss.item() == pytest.approx(loops(new, old, reference, gains, mask, clip, kl), rel=1e-9) and watch['kl'] >= 0


def test_first_step_has_ratio_one_loss_zero_and_a_gradient(model, tokenizer, prompts):
    groups = [group_of(prompt, (3, 5, 2), seed) for seed, prompt in enumerate(prompts)]
    advantages, _ = group_advantages(torch.tensor([[1.0, 0, 0.2], [0, 0.5, 0.1]]))
    new, mask = completion_logps(model, tokenizer, groups)
    frozen = reference_logps(model, tokenizer, groups, copy.deepcopy(model), 1.0)
    loss, watch = grpo_loss(new, new.detach(), frozen, advantages.flatten(), mask, kl=0.1)
    model.zero_grad(); loss.backward()
    assert watch['ratio'] == 1 and watch['clipped'] == 0 and abs(watch['kl']) < 1e-9 and abs(loss.item()) < 1e-6
    assert sum(p.grad.square().sum() for p in model.parameters()).sqrt() > 1e-3


def test_a_clipped_word_has_no_gradient():
    new = torch.tensor([[np.log(1.5)], [np.log(0.5)]], requires_grad=True)
    loss, watch = grpo_loss(new, torch.zeros(2, 1), None, torch.tensor([1.0, -1.0]), torch.ones(2, 1))
    loss.backward()
    assert new.grad.abs().max() == 0 and watch['clipped'] == 1


def test_reference_may_be_the_model_with_its_adapter_off(model, tokenizer, prompts):
    groups, tuned = [group_of(prompts[0], (3, 2))], copy.deepcopy(model)
    with torch.no_grad(): tuned.lm_head.weight.mul_(1.1)
    @contextlib.contextmanager
    def adapter_off():
        with torch.no_grad(): tuned.lm_head.weight.div_(1.1)
        yield
        with torch.no_grad(): tuned.lm_head.weight.mul_(1.1)
    off, copied = (reference_logps(tuned, tokenizer, groups, how, 1.0) for how in (adapter_off, model))
    assert torch.allclose(off, copied, atol=1e-4) and not off.requires_grad
    assert not torch.allclose(off, completion_logps(tuned, tokenizer, groups)[0], atol=1e-3)


def test_peft_adapter_off_is_the_base_model(model, tokenizer, prompts):
    peft = pytest.importorskip('peft')
    adapted = peft.get_peft_model(copy.deepcopy(model), peft.LoraConfig(r=4, target_modules=['q_proj', 'v_proj'], init_lora_weights=False))
    groups = [group_of(prompts[0], (3, 2))]
    assert torch.allclose(reference_logps(adapted, tokenizer, groups, adapted.disable_adapter, 1.0), completion_logps(model, tokenizer, groups)[0], atol=1e-5)
    assert not torch.allclose(completion_logps(adapted, tokenizer, groups)[0], completion_logps(model, tokenizer, groups)[0], atol=1e-3)


@pytest.mark.skipif(importlib.util.find_spec('trl') is None, reason='TRL is not installed; the double loop above stands in')
def test_loss_and_gradients_equal_trl(tokenizer, tmp_path):
    from datasets import Dataset
    from datasets.table import InMemoryTable
    from trl import GRPOConfig, GRPOTrainer
    model = lively(tokenizer, 3)
    config = GRPOConfig(output_dir=str(tmp_path), beta=0.0, epsilon=0.2, loss_type='grpo', num_generations=3, per_device_train_batch_size=6,
                        gradient_accumulation_steps=1, use_cpu=True, bf16=False, report_to=[], max_completion_length=9, gradient_checkpointing=False,
                        use_bias_correction_kl=False)     # plain k3 as in the paper; TRL 1.16 multiplies it by the ratio unless told
    trainer = GRPOTrainer(model=model, reward_funcs=lambda completions, **_: [0.0] * len(completions), args=config,
                          train_dataset=Dataset(InMemoryTable.from_pydict({'prompt': ['x'] * 6}), fingerprint='six'), processing_class=tokenizer)
    blind = [ClipExample(name, (), (({'role': 'user', 'content': text},),)) for name, text in (('a', TEXT), ('b', 'Which way?'))]
    groups = [group_of(blind[0], (7, 1, 4)), group_of(blind[1], (2, 9, 3), 1)]
    advantages = group_advantages(torch.tensor([[0.9, 0.1, 0.4], [0.2, 0.2, 1.0]]))[0].flatten()
    new, mask = completion_logps(model, tokenizer, groups)
    draw = seeded(5)
    old, frozen = (new.detach() + 0.3 * torch.randn(new.shape, generator=draw) for _ in range(2))
    def gradient(loss):
        model.zero_grad(); loss.backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    ours = grpo_loss(new, old, frozen, advantages, mask, 0.2, 0.07)[0]
    our_gradient = gradient(ours)
    rows = [model_inputs(model, tokenizer, [((), g.prompt.dialogues[0])], pad_left=True)['input_ids'][0] for g in groups for _ in g.completions]
    left = lambda values, width: torch.stack([torch.nn.functional.pad(v, (width - len(v), 0)) for v in values])
    width, ids = max(map(len, rows)), torch.nn.utils.rnn.pad_sequence([c for g in groups for c in g.completions], batch_first=True)
    trainer.current_gradient_accumulation_steps, trainer.beta = 1, 0.07     # a beta from the start would ask for a reference by name
    model.train()
    theirs = trainer._compute_loss(model, dict(prompt_ids=left(rows, width), prompt_mask=left([torch.ones_like(r) for r in rows], width), completion_ids=ids,
                                               completion_mask=mask.long(), advantages=advantages, old_per_token_logps=old, ref_per_token_logps=frozen))
    print('ours', ours.item(), 'TRL', theirs.item())
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-5)
    their_gradient = gradient(theirs)
    assert (our_gradient - their_gradient).abs().max() / their_gradient.abs().max() < 1e-4


# --- the loop -----------------------------------------------------------------------------------------------------------

SETTINGS = GrpoSettings(group=3, words=4, steps=5, prompts_per_step=2, learning_rate=1e-3, kl=0.05, inner=2, warmup=0.5)
length_reward = lambda text, solution: min(1.0, len(text) / 20)


def test_resumed_run_has_the_same_curve_and_weights(model, tokenizer, prompts, tmp_path):
    tasks = [Task(prompt, 'A') for prompt in prompts]
    whole, part, other = copy.deepcopy(model), copy.deepcopy(model), lively(tokenizer, 8)
    log = train_grpo(whole, tokenizer, tasks, length_reward, SETTINGS, reference=model, quiet=True)
    train_grpo(part, tokenizer, tasks, length_reward, SETTINGS, model, tmp_path / 'run', stop=2, quiet=True)
    resumed = train_grpo(other, tokenizer, tasks, length_reward, SETTINGS, model, tmp_path / 'run', quiet=True)
    assert resumed == log and [entry['step'] for entry in log] == list(range(5))
    for a, b in zip(whole.parameters(), other.parameters()): assert torch.equal(a, b)


def test_resume_refuses_other_settings(model, tokenizer, prompts, tmp_path):
    tasks = [Task(prompts[1], 'A')]
    train_grpo(copy.deepcopy(model), tokenizer, tasks, length_reward, SETTINGS, model, tmp_path / 'run', stop=1, quiet=True)
    with pytest.raises(InputError, match='another kl'):
        train_grpo(copy.deepcopy(model), tokenizer, tasks, length_reward, dataclasses.replace(SETTINGS, kl=0.5), model, tmp_path / 'run', quiet=True)


def test_flat_rewards_teach_nothing_and_are_counted(model, tokenizer, prompts):
    same = copy.deepcopy(model)
    log = train_grpo(same, tokenizer, [Task(p, '') for p in prompts], lambda text, solution: 0.5, dataclasses.replace(SETTINGS, steps=1, kl=0.0), quiet=True)
    assert log[0]['flat_groups'] == 2 and log[0]['loss'] == 0 and log[0]['gradient'] == 0
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same.parameters()))


def test_no_tasks_is_a_mistake(model, tokenizer):
    with pytest.raises(InputError, match='at least one task'): train_grpo(model, tokenizer, [], length_reward, SETTINGS)


def test_sampled_reward_repeats(model, tokenizer, prompts):
    tasks = [Task(prompt, 'A') for prompt in prompts]
    first, second = (sampled_reward(model, tokenizer, tasks, length_reward, SETTINGS, 3) for _ in range(2))
    assert torch.equal(first, second) and first.shape == (2, 3)


def test_published_values():
    assert (PUBLISHED['paper'].kl, PUBLISHED['script'].kl) == (0.1, 0.001) and {s.group for s in PUBLISHED.values()} == {12}
    assert (PUBLISHED['paper'].learning_rate, PUBLISHED['script'].learning_rate) == (5e-5, 1e-4)
