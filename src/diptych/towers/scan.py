"""The selective scan of Mamba (Gu & Dao, arXiv:2312.00752, algorithm 2 and section 3.3.2), without a kernel of its own.

    for t in range(T):
        h[n, e] = exp(dt[t, e] * A[n, e]) * h[n, e] + dt[t, e] * B[t, n] * x[t, e]
        y[t, e] = sum(C[t, n] * h[n, e] for n in range(N))

It is computed in that order, all rows and channels at once: the state of one step stays in a CPU's cache, where a scan in log T parallel
passes would each time go through T times as much memory, and nothing is divided by decays that have become tiny. Forward keeps one state
in ``CHUNK``; backward computes those between again, as the paper's kernel does. The backward is written out, since autograd would keep
every intermediate of every step; it is not differentiable a second time.

Shapes: K orders, T places, B rows, E channels, N states.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK = 8


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:  # type: ignore[override]
        u, y, starts = dt * x, torch.empty_like(x), []
        h = x.new_zeros(x.shape[0], x.shape[2], a.shape[1], x.shape[3])
        for t in range(x.shape[1]):
            if t % CHUNK == 0:
                starts.append(h.clone())
            h.mul_((dt[:, t, :, None] * a[:, None]).exp_()).addcmul_(u[:, t, :, None], b[:, t, :, :, None])
            y[:, t] = (c[:, t, :, None] @ h)[:, :, 0]
        ctx.save_for_backward(x, dt, a, b, c, *starts)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gy: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        x, dt, a, b, c, *starts = ctx.saved_tensors
        u, gu, gdt, gb, gc = dt * x, torch.empty_like(x), torch.empty_like(x), torch.empty_like(b), torch.empty_like(c)
        ga, gh = torch.zeros_like(a), torch.zeros_like(starts[0])
        for chunk in range(len(starts) - 1, -1, -1):
            times = range(chunk * CHUNK, min((chunk + 1) * CHUNK, x.shape[1]))
            states, decays = [starts[chunk]], []
            for t in times:
                decays.append((dt[:, t, :, None] * a[:, None]).exp_())
                states.append((decays[-1] * states[-1]).addcmul_(u[:, t, :, None], b[:, t, :, :, None]))
            for t in reversed(times):
                gh.addcmul_(gy[:, t, :, None], c[:, t, :, :, None])
                gc[:, t] = (states.pop() * gy[:, t, :, None]).sum(-1)
                gb[:, t] = (gh * u[:, t, :, None]).sum(-1)
                gu[:, t] = (b[:, t, :, None] @ gh)[:, :, 0]
                gz = gh.mul_(decays.pop()) * states[-1]
                gdt[:, t] = (gz * a[:, None]).sum(-2)
                ga += gz.mul_(dt[:, t, :, None]).sum(1)
        return gu * dt, gdt + gu * x, ga, gb, gc


def selective_scan(x_KTBE: Tensor, dt_KTBE: Tensor, a_KNE: Tensor, b_KTBN: Tensor, c_KTBN: Tensor) -> Tensor:
    """The recurrence of the docstring for K orders and B rows at once, in float32 or wider: (K, T, B, E)."""
    wide = torch.promote_types(x_KTBE.dtype, torch.float32)
    with torch.autocast(x_KTBE.device.type, enabled=False):
        y_KTBE = _Scan.apply(*(part.to(wide) for part in (x_KTBE, dt_KTBE, a_KNE, b_KTBN, c_KTBN)))
    return y_KTBE.to(x_KTBE.dtype)  # type: ignore[union-attr]
