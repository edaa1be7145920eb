"""Slots, anchors and the decoder: geometry first, then what the switches promise."""
import numpy as np
import pytest
import torch

from track4d_ref.anchors import coasting_path, focus_of, kinematic_path, mean_rays, moment_mask, ray_intersection
from track4d_ref.cameras import camera_rays, intrinsics, look_at, pose_from, project, rotation_about
from track4d_ref.oskra import (ANCHORS, OskraConfig, OskraDecoder, Query, Scene, Trajectory, anchored, look, slot_losses,
                               trajectory_losses, weighted)
from track4d_ref.patches import PatchLayout
from track4d_ref.rtge import RayTags, join_tags, view_tags
from track4d_ref.slots import ObjectSlots, SlotOutput, pooled_by, slot_claims, token_coverage
from track4d_ref.storage import InputError

K = intrinsics(105.0, 90.0, 58.0, 37.0)
LAYOUT = PatchLayout(4, 2, 2)


def scene_tags(views=((-2.5, -5.0), (2.0, -4.5)), frames=6) -> RayTags:
    times_s = np.arange(frames) / 4
    poses = [np.stack([look_at((x, y, 1.5 + 0.1 * t), (0, 0, 0.5), (0, 0, 1), 0.1) for t in times_s]) for x, y in views]
    grid = LAYOUT.grid(frames, 80, 112)
    return join_tags([view_tags(K, pose, times_s, grid, LAYOUT, 6.0, view) for view, pose in enumerate(poses)])


def batch_of(tags: RayTags, count: int = 2) -> RayTags:
    return RayTags(**{name: value.expand(count, *value.shape) for name, value in vars(tags).items()})


def make_case(count=2, token_width=9, moments=4, dtype=torch.float64, seed=0):
    draw = lambda *shape: torch.randn(*shape, dtype=dtype, generator=generator)
    generator = torch.Generator().manual_seed(seed)
    tags = scene_tags()
    scene = Scene(draw(count, len(tags), token_width), batch_of(tags, count), torch.ones(count, len(tags), dtype=torch.bool), 2)
    times_s = torch.linspace(0.1, 1.1, moments, dtype=dtype).expand(count, -1)
    last = torch.full((count,), 0.0, dtype=dtype)
    return scene, Query(draw(count, 12), draw(count, 10), times_s, draw(count, 3), draw(count, 3), last)


def make_decoder(**options) -> OskraDecoder:
    torch.manual_seed(3)
    return OskraDecoder(OskraConfig(9, 12, 10, width=16, slots=4, **options)).double()


# --- anchors ----------------------------------------------------------------------------------------------------------

def two_rays(point_m):
    w2c = torch.tensor(np.stack([look_at((-2, -4, 1.5), (0, 0, 0), (0, 0, 1), 0.4), look_at((3, -3, 2), (0, 0, 1), (0, 0, 1))]))
    uv_px, _ = project(torch.tensor(K), w2c, point_m.expand(2, 1, 3))
    return (value[:, 0] for value in camera_rays(torch.tensor(K), w2c, uv_px))


@pytest.mark.parametrize('seed', range(5))
def test_two_views_recover_a_point(seed):
    point_m = torch.tensor(np.random.default_rng(seed).uniform(-1, 1, 3))
    origin_m, direction = two_rays(point_m)
    weight = torch.tensor(np.random.default_rng(seed).uniform(0.1, 1, 2))
    assert (ray_intersection(origin_m, direction, weight, point_m + 9, 1e-9) - point_m).norm() < 1e-6


def test_one_ray_takes_the_depth_from_the_prior():
    origin_m, direction = (value[:1] for value in two_rays(torch.tensor([0.2, 0.3, 0.4], dtype=torch.float64)))
    prior_m = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    nearest = origin_m[0] + ((prior_m - origin_m[0]) @ direction[0]) * direction[0]
    assert torch.allclose(ray_intersection(origin_m, direction, torch.ones(1).double(), prior_m, 1e-6), nearest, atol=1e-5)


def test_rigid_equivariance():
    origin_m, direction = two_rays(torch.tensor([0.2, 0.3, 0.4], dtype=torch.float64))
    turn = torch.tensor(pose_from(rotation_about((1, 2, -1), 1.3), np.array([4.0, -2, 1])))
    move = lambda points: points @ turn[:3, :3].T + turn[:3, 3]
    prior_m, weight = torch.tensor([1.0, 0, 2]).double(), torch.tensor([0.3, 0.9]).double()
    there = ray_intersection(move(origin_m), direction @ turn[:3, :3].T, weight, move(prior_m), 0.1)
    assert torch.allclose(there, move(ray_intersection(origin_m, direction, weight, prior_m, 0.1)))


def test_intersection_equals_a_loop_in_batches():
    generator = torch.Generator().manual_seed(0)
    origin_m, raw = torch.randn(2, 3, 5, 3, dtype=torch.float64, generator=generator), torch.randn(2, 3, 5, 3, dtype=torch.float64, generator=generator)
    direction, weight, prior_m = raw / raw.norm(dim=-1, keepdim=True), raw[..., 0].abs(), raw[..., 0, :]
    found = ray_intersection(origin_m, direction, weight, prior_m, 0.2)
    for b in range(2):
        for j in range(3):
            A, right = 0.2 * torch.eye(3).double(), 0.2 * prior_m[b, j]
            for o, d, w in zip(origin_m[b, j], direction[b, j], weight[b, j]):
                M = torch.eye(3).double() - torch.outer(d, d)
                A, right = A + w * M, right + w * M @ o
            assert torch.allclose(found[b, j], torch.linalg.inv(A) @ right)
    assert torch.autograd.gradcheck(lambda o, w, p: ray_intersection(o, direction, w, p, 0.2),
                                    (origin_m.requires_grad_(), weight.requires_grad_(), prior_m.clone().requires_grad_()))


def test_paths():
    times_s = torch.tensor([[1.0, 1.5, 3.0], [0.0, 0.2, 0.3]]).double()
    start, speed, pull = torch.randn(3, 2, 3).double()
    path = kinematic_path(start, speed, pull, times_s)
    assert torch.equal(path[:, 0], start) and torch.allclose(path[0, 2], start[0] + 2 * speed[0] + 2 * pull[0])
    assert torch.allclose(kinematic_path(start, speed, 0 * pull, times_s), coasting_path(start, speed, times_s[:, 0], times_s))
    assert torch.autograd.gradcheck(kinematic_path, [v.requires_grad_() for v in (start, speed, pull)] + [times_s])
    nothing = torch.full((2, 3), float('nan'))
    assert coasting_path(nothing, nothing, nothing[:, 0], times_s).isnan().all()


def test_moments_take_the_nearest_pair_of_each_view():
    tags = batch_of(scene_tags(), 1)
    inside = moment_mask(tags.time_s, tags.view, torch.ones(1, 840, dtype=torch.bool), torch.tensor([[0.0, 0.6, 9.0]]), 3)
    assert inside.sum(-1).tolist() == [[[140, 140, 0]] * 3]
    assert tags.time_s[0][inside[0, 1, 0]].unique().tolist() == [0.625] and tags.time_s[0][inside[0, 2, 1]].unique().tolist() == [1.125]
    focus = focus_of(torch.randn(1, 840), inside)
    assert torch.allclose(focus[:, :, :2].sum(-1), torch.ones(1, 3, 2)) and focus[:, :, 2].abs().max() == 0
    origin_m, direction = mean_rays(tags.origin_m.float(), tags.direction.float(), focus)
    assert direction[0, 0, 2].abs().max() == 0 and torch.allclose(direction[:, :, :2].norm(dim=-1), torch.ones(1, 3, 2))
    assert torch.allclose(origin_m[0, 0, 0], tags.origin_m[0, 0].float(), atol=1e-6)


# --- slots ------------------------------------------------------------------------------------------------------------

def test_claims_compete_and_padding_does_not_count():
    query, key, value = torch.randn(2, 3, 5), torch.randn(2, 7, 5), torch.randn(2, 7, 5)
    claim = slot_claims(query, key)[1]
    assert torch.allclose(claim.sum(1), torch.ones(2, 7))
    mask = torch.arange(7) < 5
    assert torch.allclose(pooled_by(claim, value, mask.expand(2, 7)), pooled_by(claim[..., :5], value[:, :5], mask[None, :5].expand(2, 5)))


@pytest.mark.parametrize('use_slots', [True, False])
def test_slots_ignore_padding_and_order(use_slots):
    torch.manual_seed(0)
    slots = ObjectSlots(6, 8, 4, 3, use_slots).double()
    tokens, seed, mask = torch.randn(2, 9, 6).double(), torch.randn(2, 8).double(), torch.arange(9) < torch.tensor([[9], [6]])
    out, short = slots(tokens, seed, mask), slots(tokens[1:, :6], seed[1:], mask[1:, :6])
    assert torch.allclose(out.slots[1:], short.slots)
    assert torch.allclose(slots(tokens.flip(1), seed, mask.flip(1)).slots, out.slots)
    assert out.slots.shape[1] == (4 if use_slots else 1)
    assert torch.autograd.gradcheck(lambda t: slots(t, seed, mask).slots, tokens.requires_grad_())


def test_coverage_counts_pixels():
    instances = np.zeros((4, 16, 24), np.int32)
    instances[0, 0:8, 8:16], instances[3, 12:16, 20:24] = 7, 7
    cover = token_coverage(instances, 7, LAYOUT).reshape(2, 2, 3)
    assert cover[0, 0, 1] == 0.5 and cover[1, 1, 2] == 16 / 128 and float(cover.sum()) * 128 == (instances == 7).sum()
    assert token_coverage(instances, 3, LAYOUT).sum() == 0


# --- the decoder ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('anchor', ANCHORS)
def test_start_is_the_kinematic_model(anchor):
    scene, query = make_case()
    found = make_decoder(anchor=anchor)(scene, query)
    assert found.residual_m.abs().max() == 0 and torch.equal(found.xyz_m, found.anchor_m)
    if anchor == 'head':
        second = torch.diff(found.xyz_m, n=2, dim=1)
        assert torch.equal(found.anchor_m, found.prior_m) and torch.allclose(second[:, 0], second[:, 1])
    if anchor == 'persist': assert torch.allclose(found.xyz_m, coasting_path(query.last_m, query.velocity_mps, query.last_s, query.times_s))


def test_persist_falls_back_to_the_head_where_nothing_is_known():
    scene, query = make_case()
    query.last_m[1] = float('nan')
    found = make_decoder(anchor='persist')(scene, query)
    assert torch.equal(found.anchor_m[1], found.prior_m[1]) and not torch.allclose(found.anchor_m[0], found.prior_m[0])


def test_dialogues_of_a_batch_do_not_mix():
    scene, query = make_case()
    decoder, noise = make_decoder(), torch.randn(scene.tokens[0].shape, dtype=torch.float64)
    other = Scene(torch.stack([noise, scene.tokens[1]]), scene.tags, scene.mask, 2)
    assert torch.allclose(decoder(scene, query).xyz_m[1], decoder(other, query).xyz_m[1])
    assert not torch.allclose(decoder(scene, query).xyz_m[0], decoder(other, query).xyz_m[0])


def test_padding_does_not_change_the_answer():
    scene, query = make_case()
    pad = lambda values: torch.cat([values, torch.ones_like(values[:, :5])], 1)
    longer = Scene(pad(scene.tokens), RayTags(**{n: pad(v) for n, v in vars(scene.tags).items()}),
                   torch.cat([scene.mask, torch.zeros(2, 5, dtype=torch.bool)], 1), 2)
    a, b = make_decoder()(scene, query), make_decoder()(longer, query)
    assert torch.allclose(a.xyz_m, b.xyz_m) and torch.allclose(a.visible_logit, b.visible_logit)


@pytest.mark.parametrize('options', [{'use_slots': False}, {'use_residual': False}, {'use_kinematics': False}, {'anchor': 'head'}, {'anchor': 'persist'}])
def test_every_part_can_be_switched_off(options):
    scene, query = make_case()
    decoder = make_decoder(**options)
    with torch.no_grad(): decoder.residual.network[2].bias.fill_(0.3)
    found = decoder(scene, query)
    assert found.xyz_m.isfinite().all()
    assert (found.residual_m.abs().max() == 0) == (options.get('use_residual') is False)
    assert found.residual_m.abs().max() <= 2.0


def test_horizon_is_free_with_kinematics_and_fixed_without():
    for moments in (4, 8, 16): assert make_decoder()(*make_case(moments=moments)).xyz_m.shape == (2, moments, 3)
    with pytest.raises(InputError, match='8 states were asked for'): make_decoder(use_kinematics=False)(*make_case(moments=8))
    with pytest.raises(InputError, match="anchor = 'magic'"): make_decoder(anchor='magic')


def test_decoder_moves_with_the_world():
    scene, query = make_case()
    turn = torch.tensor(pose_from(rotation_about((0.3, 1, -1), 0.7), np.array([1.0, 2, -3])))
    move = lambda points: points @ turn[:3, :3].T + turn[:3, 3]
    tags = RayTags(**vars(scene.tags) | {'origin_m': move(scene.tags.origin_m), 'direction': scene.tags.direction @ turn[:3, :3].T})
    found = SlotOutput(None, torch.rand(2, 3, 840).double(), torch.randn(2, 840).double(), None)
    focus, claimed = look(scene, query, found)
    prior_m, config = torch.randn(2, 4, 3).double(), make_decoder().config
    there = anchored(config, Scene(scene.tokens, tags, scene.mask, 2), query, move(prior_m), focus, claimed)
    assert torch.allclose(there, move(anchored(config, scene, query, prior_m, focus, claimed)))


# --- losses -----------------------------------------------------------------------------------------------------------

def exact(delta_m, path_m) -> Trajectory:
    return Trajectory(path_m + delta_m, path_m, path_m, delta_m, torch.zeros(path_m.shape[:2]).double(), *[None] * 4)


def test_zero_residual_is_a_minimum_on_constant_velocity():
    path_m = kinematic_path(*torch.randn(2, 1, 3).double(), torch.zeros(1, 3).double(), torch.tensor([[0, 0.4, 1.0, 1.1]]).double())
    yes = torch.ones(1, 4, dtype=torch.bool)
    total = lambda delta_m: float(weighted(trajectory_losses(exact(delta_m, path_m), path_m, yes, yes)))
    best = total(torch.zeros_like(path_m))
    for seed in range(30):
        delta_m = torch.randn(path_m.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        assert all(total(size * delta_m) > best for size in (1e-4, 0.01, 0.3))


def test_losses_by_hand_and_unknown_steps():
    truth = torch.zeros(1, 4, 3).double()
    truth[0, 3] = float('nan')
    known = torch.tensor([[True, True, True, False]])
    delta_m = torch.zeros(1, 4, 3).double()
    delta_m[0, 1, 0] = 2.0
    terms = trajectory_losses(exact(delta_m, torch.zeros(1, 4, 3).double()), truth, known, known)
    assert float(terms['position']) == pytest.approx(1.5 / 3) and float(terms['step']) == pytest.approx(4 / 2)
    assert float(terms['residual']) == pytest.approx(2 / 3) and float(terms['visible']) == pytest.approx(np.log(2))
    assert float(terms['kinematic']) == 0 and torch.isfinite(weighted(terms))
    nothing = trajectory_losses(exact(delta_m, torch.zeros_like(truth)), truth, known, torch.zeros_like(known))
    assert all(float(value) == 0 for value in nothing.values())


def test_slot_losses_fall_when_slot_zero_looks_right():
    scene, query = make_case()
    coverage = torch.zeros(2, 840).double()
    coverage[:, 300:304] = 1
    base = make_decoder()(scene, query)
    right = SlotOutput(base.found.slots, base.found.claim.clone(), (coverage - 0.5) * 20, base.found.value)
    right.claim[:, 0] = coverage
    focus, claimed = look(scene, query, right)
    better = Trajectory(**vars(base) | {'focus': focus, 'claimed': claimed, 'found': right})
    before, after = ({name: value.detach() for name, value in slot_losses(found, scene, coverage, query.times_s).items()}
                     for found in (base, better))
    assert float(after['claim']) < 1e-4 < float(before['claim']) and float(after['focus']) < float(before['focus'])


def test_all_parameters_learn_after_one_step():
    scene, query = make_case()
    decoder = make_decoder()
    yes, truth = torch.ones(2, 4, dtype=torch.bool), torch.randn(2, 4, 3).double()
    with torch.no_grad(): decoder.residual.network[2].weight.normal_()
    found = decoder(scene, query)
    coverage = torch.rand(2, 840).double()
    weighted(trajectory_losses(found, truth, yes, yes) | slot_losses(found, scene, coverage, query.times_s)).backward()
    assert [name for name, value in decoder.named_parameters() if value.grad is None or value.grad.abs().sum() == 0] == []


def test_a_ray_without_a_range_has_no_say_along_itself():
    import torch
    from track4d_ref.anchors import ray_intersection
    origin_m, direction = torch.zeros(1, 3), torch.tensor([[0.0, 0.0, 1.0]])
    prior_m = torch.tensor([1.0, 0.0, 7.0])
    plain = ray_intersection(origin_m, direction, torch.ones(1), prior_m, 1e-3)
    assert torch.allclose(ray_intersection(origin_m, direction, torch.ones(1), prior_m, 1e-3, None, 0.05), plain)
    assert abs(float(plain[2]) - 7) < 1e-3
    ranged = ray_intersection(origin_m, direction, torch.ones(1), prior_m, 1e-6, torch.tensor([4.0]), 0.05)
    assert abs(float(ranged[2]) - 4) < 1e-2
