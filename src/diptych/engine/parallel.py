"""One engine for one process and n: columns gathered with gradient, blocks round a ring, and who shards what.

Nothing here is set by a flag: ``torchrun`` sets the environment, the objective's card says whether blocks may pass round
a ring, and the size of the model decides between replicas (DDP) and shards (FSDP2).

Gradients: each rank's loss is the mean over its own rows, and the wrappers average gradients over ranks. So the backward
of a gather sums over ranks what they ask of this rank's rows; the average then is the gradient of the mean loss.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from diptych.core.errors import DiptychError
from diptych.core.types import Loss, Pairs

BYTES_PER_PARAMETER = 16  # float32 weight, gradient and AdamW's two moments
REPLICA_SHARE = 0.4  # replicas while those fit in this share of a device; activations need the rest


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among all: ``rank`` of ``world``, on ``device``."""

    rank: int
    world: int
    local: int
    device: torch.device

    @staticmethod
    def current(device: torch.device | str | None = None) -> Ranks:
        """Read ``torchrun``'s environment and join the group if there is one and this process has not yet."""
        world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if device is None:
            device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
        device = torch.device(device)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        if world > 1 and not dist.is_initialized():
            dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        return Ranks(rank, world, local, device)

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which alone writes files."""
        return self.rank == 0

    def any(self, *flags: bool) -> list[bool]:
        """For each flag, whether any rank raised it; every rank must ask."""
        if self.world == 1:
            return list(flags)
        vote = torch.tensor(flags, dtype=torch.float32)
        dist.all_reduce(vote, op=dist.ReduceOp.MAX)
        return [bool(flag) for flag in vote.tolist()]

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a tensor over ranks, without gradient."""
        if self.world == 1:
            return value.detach()
        value = value.detach().clone()
        dist.all_reduce(value)
        return value / self.world

    def barrier(self) -> None:
        """Wait for every rank."""
        if self.world > 1:
            dist.barrier()


class _Gather(torch.autograd.Function):
    """Rows of all ranks; backward sums what every rank asks of this rank's rows."""

    @staticmethod
    def forward(ctx: Any, x_BD: Tensor, rank: int, world: int) -> Tensor:  # type: ignore[override]
        ctx.start, ctx.rows = rank * len(x_BD), len(x_BD)
        parts = [torch.empty_like(x_BD) for _ in range(world)]
        dist.all_gather(parts, x_BD.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad_ND: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        grad_ND = grad_ND.contiguous().clone()
        dist.all_reduce(grad_ND)
        return grad_ND[ctx.start : ctx.start + ctx.rows], None, None


def gather(x_BD: Tensor, ranks: Ranks) -> Tensor:
    """Rows of all ranks in rank order, (N, D), with gradient. Every rank must hold equally many rows."""
    return x_BD if ranks.world == 1 else _Gather.apply(x_BD, ranks.rank, ranks.world)  # type: ignore[return-value]


def _shift(x: Tensor, ranks: Ranks, step: int) -> Tensor:
    """Send to rank + step, receive from rank − step."""
    received = torch.empty_like(x)
    to, source = (ranks.rank + step) % ranks.world, (ranks.rank - step) % ranks.world
    work = dist.batch_isend_irecv([dist.P2POp(dist.isend, x.contiguous(), to), dist.P2POp(dist.irecv, received, source)])
    for request in work:
        request.wait()
    return received


class _Shift(torch.autograd.Function):
    """The next rank's block arrives; backward sends its gradient home."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: Ranks) -> Tensor:  # type: ignore[override]
        ctx.ranks = ranks
        return _shift(x, ranks, -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return _shift(grad.contiguous(), ctx.ranks, 1), None


def _ring(function: Callable[[Pairs], Loss], rows: Pairs, ranks: Ranks) -> Loss:
    """Sum a blockwise objective over the ranks' blocks; only one B × B block of logits is alive at a time."""
    width = rows.image_BD.shape[1]
    block_BD, concept_B = torch.cat([rows.image_BD, rows.text_BD], dim=1), rows.concept_B
    n, totals = len(rows.image_BD), {}

    def terms(image_BD: Tensor, text_BD: Tensor, block_BD: Tensor, scale: Tensor, bias: Tensor, concept_B: Tensor, offset: int) -> Any:
        block = {"image_ND": block_BD[:, :width], "text_ND": block_BD[:, width:], "concept_N": concept_B, "offset": offset}
        loss = function(replace(rows, image_BD=image_BD, text_BD=text_BD, scale=scale, bias=bias, **block))
        return loss.total, dict(loss.terms)

    total = rows.scale.new_zeros(())
    for hop in range(ranks.world):
        owner = (ranks.rank + hop) % ranks.world
        offset = (ranks.rank - owner) * n
        part, parts = checkpoint(
            terms, rows.image_BD, rows.text_BD, block_BD, rows.scale, rows.bias, concept_B, offset, use_reentrant=False
        )  # type: ignore[misc]
        total = total + part
        totals = {name: totals.get(name, 0.0) + value for name, value in parts.items()}
        if hop + 1 < ranks.world:
            block_BD, concept_B = _Shift.apply(block_BD, ranks), _shift(concept_B, ranks, -1)  # type: ignore[assignment]
    return Loss(total, totals)


def contrast(
    function: Callable[[Pairs], Loss], rows: Pairs, ranks: Ranks, *, blockwise: bool = False, columns: Set[str] = frozenset()
) -> Loss:
    """The objective of this rank's rows against the columns of all ranks, gathered or round the ring.

    Args:
        function: the objective.
        rows: this rank alone: its rows are the columns too. Concept numbers must mean the same on every rank.
        blockwise: the value is a plain sum over blocks of columns.
        columns: names in ``rows.taps`` whose rows of all ranks the objective wants.
    """
    if ranks.world == 1:
        return function(replace(rows, columns={name: rows.taps[name] for name in columns}))
    if blockwise:
        return _ring(function, rows, ranks)
    columns_ND = gather(torch.cat([rows.image_BD, rows.text_BD], dim=1), ranks)
    image_ND, text_ND = columns_ND.split(rows.image_BD.shape[1], dim=1)
    return function(
        replace(
            rows,
            image_ND=image_ND,
            text_ND=text_ND,
            concept_N=gather(rows.concept_B, ranks),
            offset=ranks.rank * len(rows.image_BD),
            columns={name: gather(rows.taps[name], ranks) for name in sorted(columns)},
        )
    )


def average_gradients(module: nn.Module, ranks: Ranks) -> None:
    """The mean over ranks of the gradients of a module that is not wrapped; a rank without one counts as zero."""
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.grad = ranks.mean(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)


def strategy(parameters: int, device_bytes: int) -> str:
    """``"replicate"`` (DDP) while weights, gradients and moments fit in 40 % of a device, else ``"shard"`` (FSDP2)."""
    return "replicate" if parameters * BYTES_PER_PARAMETER <= REPLICA_SHARE * device_bytes else "shard"


def device_bytes(device: torch.device) -> int:
    """Memory of one device in bytes; on the CPU the machine's, shared by the ranks of this machine."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def scalars(module: nn.Module) -> set[nn.Parameter]:
    """Parameters without an axis (scale and bias): these cannot be cut into shards, so every rank keeps them."""
    return {p for p in module.parameters() if p.ndim == 0}


def average_scalars(module: nn.Module, ranks: Ranks) -> None:
    """The mean over ranks of the gradients of :func:`scalars`, which shards leave out."""
    for parameter in module.parameters():
        if parameter.ndim == 0 and parameter.grad is not None:
            parameter.grad = ranks.mean(parameter.grad)


def wrap(
    module: nn.Module,
    blocks: list[nn.Module],
    ranks: Ranks,
    how: str | None = None,
    aside: Iterable[nn.Parameter] = (),
    partial: bool = False,
) -> nn.Module:
    """Make ``module`` average (and, where too large, shard) its gradients over ranks; itself on one rank.

    Args:
        module: what is called in a step; all its trainable parameters must take part in each call, unless ``partial``.
        blocks: the repeated blocks, each sharded as a unit of its own.
        how: ``"replicate"`` or ``"shard"`` instead of the rule; for tests.
        aside: parameters that are used outside of ``module``'s forward and never trained; every rank keeps them whole.

    Raises:
        DiptychError: nothing of the module is trainable.
    """
    trainable = sum(p.numel() for p in module.parameters() if p.requires_grad)
    if trainable == 0:
        raise DiptychError("training", "every parameter of the model is frozen", "Leave a tower or a projection out of init.freeze")
    if ranks.world == 1:
        return module
    how = how or strategy(sum(p.numel() for p in module.parameters()), device_bytes(ranks.device))
    if how == "shard":
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(ranks.device.type, (ranks.world,))
        owners = Counter(p for block in blocks for p in block.parameters())
        for block in blocks:
            if all(owners[p] == 1 for p in block.parameters()):  # blocks that share weights are gathered with the whole
                fully_shard(block, mesh=mesh)
        return fully_shard(module, mesh=mesh, ignored_params=scalars(module) | set(aside))  # type: ignore[return-value]
    from torch.nn.parallel import DistributedDataParallel

    return DistributedDataParallel(
        module, device_ids=None if ranks.device.type == "cpu" else [ranks.device.index], find_unused_parameters=partial
    )
