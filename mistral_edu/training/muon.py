"""Muon: an optimiser for matrices, whose steps change every direction by about as much.

    momentum ← lerp(momentum, gradient, 0.05);   u = lerp(gradient, momentum, 0.95) = U Σ Vᵀ
    weights ← weights · (1 − rate · decay) − rate · √max(1, rows / columns) · U Vᵀ

U Vᵀ comes without a decomposition, by a polynomial that drives every singular value towards 1:

    X ← u / ‖u‖;   five times: A = X Xᵀ,  X ← 3.4445 X + (−4.775 A + 2.0315 A A) X

Source: Jordan and others, "Muon: An optimizer for hidden layers in neural networks" (2024).
`torch.optim.Muon` is the same and always computes in bfloat16, which a CPU without instructions for
it does thirty times more slowly than float32: hence this one, which is told in what to compute.
Lesson: 10_heads_and_training.
"""

import math
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import torch
from jaxtyping import Float
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.775, 2.0315)
ITERATIONS = 5
MOMENTUM = 0.95


class Muon(torch.optim.Optimizer):
    """Takes orthogonal steps.

    Args:
        matrices: two-dimensional parameters.
        lr: the rate.
        weight_decay: shrinkage per unit of the rate.
        dtype: of the polynomial.
        workers: how many matrices are worked on at the same time.

    >>> weight = nn.Parameter(torch.zeros(2, 3))
    >>> weight.grad = torch.tensor([[4.0, 0.0, 0.0], [0.0, 0.5, 0.0]])
    >>> Muon([weight], lr=1.0, weight_decay=0.0).step()
    >>> [0.6 < -weight[i, i].item() < 1.3 for i in (0, 1)]
    [True, True]
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        lr: float,
        weight_decay: float,
        dtype: torch.dtype = torch.float32,
        workers: int = 1,
    ) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})
        self.dtype, self.workers = dtype, workers

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every matrix that has a gradient."""
        with ThreadPoolExecutor(self.workers) as pool:
            for group in self.param_groups:
                matrices = [p for p in group["params"] if p.grad is not None]
                ways = pool.map(self._direction, matrices)
                for matrix, way in zip(matrices, ways, strict=True):
                    rows, columns = matrix.shape
                    matrix.mul_(1 - group["lr"] * group["weight_decay"])
                    matrix.add_(way, alpha=-group["lr"] * math.sqrt(max(1, rows / columns)))

    def _direction(self, matrix: nn.Parameter) -> Float[Tensor, "rows columns"]:
        assert matrix.grad is not None
        state = self.state[matrix]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(matrix.grad)
        with torch.no_grad():
            momentum = state["momentum"].lerp_(matrix.grad, 1 - MOMENTUM)
            return orthogonalized(matrix.grad.lerp(momentum, MOMENTUM).to(self.dtype))


def orthogonalized(matrix: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """The matrix with all its singular values near 1 (0.7 to 1.2).

    >>> near = torch.linalg.svdvals(orthogonalized(torch.diag(torch.tensor([5.0, 1.0, 0.2]))))
    >>> bool(((near > 0.6) & (near < 1.3)).all())
    True
    """
    a, b, c = COEFFICIENTS
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if matrix.shape[0] > matrix.shape[1] else x
