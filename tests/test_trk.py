"""The gated state: what it keeps, what it forgets, and that it belongs to one dialogue."""
import dataclasses
import gc

import pytest
import torch
from hypothesis import given, settings, strategies as st

from track4d_ref.storage import InputError
from track4d_ref.trk import StateToken, TrkConfig, cut_gradient, fresh_state, gated_update, load_state, save_state, stream


def make_token(width=11, state_width=7, **options) -> StateToken:
    torch.manual_seed(2)
    return StateToken(TrkConfig(width, state_width, **options)).double()


def hidden_states(count, rows=3, width=11) -> torch.Tensor:
    return torch.randn(count, rows, width, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def test_closed_gate_freezes_open_gate_forgets():
    token, hidden = make_token(), hidden_states(1)[0]
    states = torch.randn(2, 3, 7, dtype=torch.float64)
    token.gate.weight.data.zero_()
    token.gate.bias.data.fill_(-1e4)
    assert torch.equal(token(hidden, states[0]).state, states[0])
    token.gate.bias.data.fill_(1e4)
    token.candidate.weight.data[:, 11:] = 0                      # the candidate looks at the hidden state alone
    assert torch.allclose(token(hidden, states[0]).state, token(hidden, states[1]).state)


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 1), st.floats(-5, 5), st.floats(-5, 5))
def test_update_lies_between(gate, old, new):
    found = float(gated_update(torch.tensor([old]), torch.tensor([new]), torch.tensor([gate])))
    assert min(old, new) - 1e-5 <= found <= max(old, new) + 1e-5


def test_start_is_a_no_op_on_every_turn():
    token, hidden = make_token(), hidden_states(4)
    word, state = torch.randn(3, 11, dtype=torch.float64), token.start(3)
    for step in stream(token, hidden, state):
        assert torch.equal(token.word(word, step.state), word)
    assert 0.35 < float(step.gate.detach().mean()) < 0.65 and token.gate.bias.abs().sum() == 0


def test_dialogues_do_not_leak():
    token, hidden = make_token(), hidden_states(5).requires_grad_()
    last = list(stream(token, hidden.unbind(0), token.start(3)))[-1].state
    grad = torch.autograd.grad(last[1].sum(), hidden)[0]
    assert grad[:, [0, 2]].abs().max() == 0 and grad[4, 1].abs().max() > 0
    alone = list(stream(token, hidden[:, 1:2].unbind(0), token.start(1)))[-1].state
    assert torch.allclose(alone[0], last[1])


@pytest.mark.parametrize('cut', [1, 2, 5, 8])
def test_streaming_equals_one_pass(cut):
    token, hidden = make_token(), hidden_states(9)
    whole = [step.state for step in stream(token, hidden, token.start(3))]
    head = [step.state for step in stream(token, hidden[:cut], token.start(3))]
    tail = [step.state for step in stream(token, hidden[cut:], head[-1], first=cut)]
    assert all(torch.equal(a, b) for a, b in zip(whole, head + tail)) and len(head + tail) == 9


def test_gradients_are_cut():
    token, inputs = make_token(), list(hidden_states(4).requires_grad_().unbind(0))
    states = [step.state for step in stream(token, inputs, token.start(3))]
    reach = lambda loss, source: torch.autograd.grad(states[loss].sum(), inputs[source], allow_unused=True, retain_graph=True)[0]
    assert reach(2, 0) is None and reach(3, 1) is None
    assert reach(1, 0).abs().max() > 0 and reach(3, 2).abs().max() > 0
    assert cut_gradient(states[0], 1, token.config) is states[0] and not cut_gradient(states[0], 2, token.config).requires_grad


def test_word_carries_the_state_once_the_weight_is_open():
    token = make_token()
    token.into_word.weight.data.normal_()
    state, word = torch.randn(3, 7, dtype=torch.float64, requires_grad=True), torch.zeros(3, 11, dtype=torch.float64)
    carried = token.word(word, state)
    assert torch.allclose(carried, state @ token.into_word.weight.T)
    assert torch.autograd.grad(carried.sum(), state)[0].abs().max() > 0


def test_without_memory_every_turn_starts_anew():
    token, hidden = make_token(memory=False), hidden_states(2)
    last = [step.state for step in stream(token, hidden, token.start(3))][-1]
    assert torch.equal(last, token(hidden[1], token.start(3)).state)
    token.into_word.weight.data.normal_()
    assert torch.equal(token.word(hidden[0], last), hidden[0])


def test_confidence_is_zero_without_observation():
    token, hidden = make_token(), hidden_states(1)[0]
    token.confidence.bias.data.fill_(3.0)
    seen, unseen = (token(hidden, token.start(3), torch.full((3,), flag)) for flag in (True, False))
    assert torch.equal(seen.state, token(hidden, token.start(3)).state)
    assert not torch.allclose(seen.gate, unseen.gate) and torch.equal(seen.confidence_logit, unseen.confidence_logit)
    token.gate.weight.data[:, -1] = 0                            # nothing else depends on it
    assert torch.equal(*(token(hidden, token.start(3), torch.full((3,), flag)).gate for flag in (True, False)))


def test_gradcheck_of_a_step():
    token, hidden = make_token(4, 3), hidden_states(1, 2, 4)[0].requires_grad_()
    state = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda h, s: (token(h, s).state, token(h, s).gate, token(h, s).confidence_logit), (hidden, state))


def test_a_thousand_chunks_in_the_memory_of_one():
    token = make_token()
    def live():
        gc.collect()
        return sum(item.numel() for item in gc.get_objects() if torch.is_tensor(item))
    with torch.no_grad():
        chunks = (torch.randn(1, 11, dtype=torch.float64) for _ in range(1000))
        counts = [live() for number, _ in enumerate(stream(token, chunks, token.start(1))) if number in (3, 500, 999)]
    assert counts[0] == counts[1] == counts[2]


def test_state_is_saved_with_its_dialogue(tmp_path):
    token = make_token()
    state = dataclasses.replace(fresh_state('a', token), turn=3, vector=torch.arange(7.0), last_m=torch.tensor([1., 2, 3]), last_s=0.5)
    save_state(state, tmp_path / 'state.npz')
    back = load_state(tmp_path / 'state.npz', 'a')
    assert torch.equal(back.vector, state.vector) and torch.equal(back.last_m, state.last_m)
    assert (back.turn, back.last_s, back.dialogue) == (3, 0.5, 'a') and back.velocity_mps.isnan().all()
    with pytest.raises(InputError, match="dialogue 'a', not of 'b'"): load_state(tmp_path / 'state.npz', 'b')
    (tmp_path / 'broken.npz').write_bytes(b'PK')
    with pytest.raises(InputError, match='readable'): load_state(tmp_path / 'broken.npz', 'a')
