# %% [markdown]
# # Solids
# > Where a ray meets an ellipsoid, a box or a frustum (cylinder, cone), for a million rays at once.

# %%
#| default_exp solids

# %% [markdown]
# #| export
# Every solid is intersected in its own axes, divided by its half size, so it is always one of three unit shapes: the unit
# sphere, the cube [-1, 1]³, and the frustum with radius 1 at z = -1 and `taper` at z = +1 (1: cylinder, 0: cone).
# Rays are `origin + t · direction`; all arithmetic is + − × ÷ √ in float32, so results do not depend on batching.

# %% [markdown]
# * **What** three intersection formulas and three normals
# * **Why** cars, people and furniture are built from them; their depth must be exact
# * **Paper** none; the shapes are **[ours]**
# * **Needs** torch
# * **Time** 10 seconds
# * **Before this** nothing

# %%
#| export
import torch

# %%
#| export
ELLIPSOID, BOX, FRUSTUM = 0, 1, 2
FAR = 1e30            # the t of a miss: finite, so that arithmetic on it stays defined
NEAR = 0.05           # hits closer than this are behind or on the camera


# %%
#| export
def _else_far(t: torch.Tensor, miss: torch.Tensor) -> torch.Tensor:
    return t + miss.float() * FAR

def ellipsoid_hit(origin: torch.Tensor, direction: torch.Tensor, taper: torch.Tensor | None) -> torch.Tensor:
    "t (N,) where rays (3, N) enter the unit sphere; FAR where they miss."
    squared = (direction * direction).sum(0)
    closest = -(origin * direction).sum(0) / squared
    nearest = origin + closest * direction
    gap = 1 - (nearest * nearest).sum(0)
    t = closest - (gap.clamp(min=0) / squared).sqrt()
    return _else_far(t, (gap <= 0) | (t < NEAR))


# %%
#| export
def box_hit(origin: torch.Tensor, direction: torch.Tensor, taper: torch.Tensor | None) -> torch.Tensor:
    "t (N,) where rays (3, N) enter the cube [-1, 1]³ (slab test); FAR where they miss."
    inverse = 1 / (direction + 1e-12)
    middle, reach = -origin * inverse, inverse.abs()
    t, leave = (middle - reach).amax(0), (middle + reach).amin(0)
    return _else_far(t, (t >= leave) | (t < NEAR))


# %%
#| export
def _frustum_side(x, y, z, direction, mean, slope) -> tuple[torch.Tensor, torch.Tensor]:
    "Both roots of x² + y² = (mean + slope z)² along the rays; FAR where there are none."
    dx, dy, dz = direction
    radius, rate = mean + slope * z, slope * dz
    a = dx * dx + dy * dy - rate * rate
    b = x * dx + y * dy - rate * radius
    inside = b * b - a * (x * x + y * y - radius * radius)
    root, inverse = inside.clamp(min=0).sqrt(), 1 / (a + 1e-12)
    return _else_far((-b - root) * inverse, inside <= 0), _else_far((-b + root) * inverse, inside <= 0)

def frustum_hit(origin: torch.Tensor, direction: torch.Tensor, taper: torch.Tensor) -> torch.Tensor:
    "t (N,) where rays (3, N) enter the frustum of `taper` (N,); FAR where they miss."
    closest = -(origin * direction).sum(0) / (direction * direction).sum(0)   # start there: float32 stays accurate
    x, y, z = origin + closest * direction
    dx, dy, dz = direction
    mean, slope = (taper + 1) / 2, (taper - 1) / 2
    best = torch.full_like(x, FAR)
    for t in _frustum_side(x, y, z, direction, mean, slope):
        best = torch.minimum(best, _else_far(t, ((z + t * dz).abs() > 1) | (t + closest < NEAR)))
    for level in (-1, 1):
        t = (level - z) / (dz + 1e-12)
        at_x, at_y, limit = x + t * dx, y + t * dy, mean + slope * level
        best = torch.minimum(best, _else_far(t, (at_x * at_x + at_y * at_y > limit * limit) | (t + closest < NEAR)))
    return best + closest

INTERSECT = (ellipsoid_hit, box_hit, frustum_hit)


# %%
#| export
def solid_normal(kind: int, point: torch.Tensor, half_m: torch.Tensor, taper: torch.Tensor) -> torch.Tensor:
    "Outward unit normals (3, N) in the solid's axes at surface points (3, N) given in unit coordinates."
    if kind == ELLIPSOID: normal = point
    elif kind == BOX:
        size = point.abs()
        normal = point * (size >= size.amax(0)).float()
    else:
        x, y, z = point
        slope = (taper - 1) / 2
        radius = (1 + taper) / 2 + slope * z
        side = 1 - (x * x + y * y - radius * radius < z * z - 1).float()
        normal = torch.stack([x * side, y * side, z * (1 - side) - slope * radius * side])
    normal = normal / half_m
    return normal / (normal * normal).sum(0).sqrt()
