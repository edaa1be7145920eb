"""Muon in single precision: the library's steps, cheaper."""
import pytest
import torch

from track4d_ref.muon import Muon, orthogonal


@pytest.mark.parametrize('shape', [(7, 7), (5, 19), (19, 5), (1, 6)])
def test_orthogonal_keeps_singular_vectors(shape):
    torch.manual_seed(1)
    gradient = torch.randn(shape, dtype=torch.float64)
    u, s, vt = torch.linalg.svd(gradient, full_matrices=False)
    inner = u.T @ orthogonal(gradient) @ vt.T
    assert torch.allclose(inner, torch.diag(inner.diagonal()), atol=1e-9) and (inner.diagonal() > 0.3).all() and (inner.diagonal() < 1.3).all()
    assert torch.allclose(orthogonal(gradient), orthogonal(1e-3 * gradient), atol=1e-4)     # the scale of a gradient does not count


@pytest.mark.parametrize('nesterov', [True, False])
@pytest.mark.parametrize('shape', [(24, 16), (16, 24)])
def test_steps_are_the_librarys_up_to_bfloat16(shape, nesterov):
    torch.manual_seed(2)
    start, gradients = torch.randn(shape), [torch.randn(shape) for _ in range(4)]
    ends = []
    for kind in (Muon, torch.optim.Muon):
        weight = torch.nn.Parameter(start.clone())
        optimizer = kind([weight], lr=0.02, momentum=0.9, weight_decay=0.1, nesterov=nesterov)
        for gradient in gradients:
            weight.grad = gradient.clone(); optimizer.step()
        ends.append(weight.detach())
    moved = (ends[1] - start).abs().mean()
    assert (ends[0] - ends[1]).abs().mean() < 0.02 * moved


def test_state_travels_between_both():
    weight = torch.nn.Parameter(torch.eye(4, 6)); weight.grad = torch.ones(4, 6)
    ours = Muon([weight], lr=0.1); ours.step()
    library = torch.optim.Muon([weight], lr=0.1); library.load_state_dict(ours.state_dict())
    assert torch.equal(library.state[weight]['momentum_buffer'], ours.state[weight]['momentum_buffer'])


def test_parameters_without_gradient_rest():
    moving, resting = torch.nn.Parameter(torch.eye(3)), torch.nn.Parameter(torch.eye(3))
    moving.grad = torch.ones(3, 3)
    Muon([moving, resting], lr=0.1).step()
    assert torch.equal(resting, torch.eye(3)) and not torch.equal(moving, torch.eye(3))
