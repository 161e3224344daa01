"""The largest local maxima of a field on a grid, kept as one maximum for each of a bounded number of cells."""

from __future__ import annotations

import torch
from torch import Tensor

_MAX_CELLS = 2**16


class PeakCells:
    """Running cell maxima of a field on an equispaced grid that is seen slab by slab.

    ``sizes`` are the grid's points per dimension; the first ``num_separate`` dimensions are lists whose entries are
    not neighbours. Cells are blocks of the grid, at most about 2^16 in all; a peak is a cell whose maximum no
    neighbouring cell exceeds, so that many points of one hill count once.
    """

    def __init__(self, sizes: tuple[int, ...], num_separate: int, device: str | torch.device) -> None:
        self.sizes, self.num_separate = sizes, num_separate
        free = len(sizes) - num_separate
        separate = 1
        for size in sizes[:num_separate]:
            separate *= size
        most = max(2, int((_MAX_CELLS / separate) ** (1 / max(1, free)) + 1e-9))
        self.blocks = [1 if d < num_separate else -(-size // min(size, most)) for d, size in enumerate(sizes)]
        self.shape = tuple(-(-size // block) for size, block in zip(sizes, self.blocks, strict=True))
        count = 1
        for size in self.shape:
            count *= size
        self.largest = torch.full((count,), -torch.inf, dtype=torch.float64, device=device)
        self.position = torch.zeros(count, dtype=torch.int64, device=device)

    def add(self, values: Tensor, start: int) -> None:
        """Take in the field at flat grid positions ``start``, ``start + 1``, ...; ties keep the first position."""
        positions = torch.arange(start, start + len(values), device=values.device)
        cells, stride, rest = torch.zeros_like(positions), 1, positions
        for size, block, count in reversed(list(zip(self.sizes, self.blocks, self.shape, strict=True))):
            cells += rest % size // block * stride
            rest, stride = rest // size, stride * count
        before = self.largest.clone()
        self.largest.scatter_reduce_(0, cells, values, "amax")
        top = (values == self.largest[cells]) & (values > before[cells])
        first = torch.full_like(self.position, torch.iinfo(torch.int64).max)
        first.scatter_reduce_(0, cells[top], positions[top], "amin")
        self.position = torch.where(first < torch.iinfo(torch.int64).max, first, self.position)

    def peaks(self, count: int) -> Tensor:
        """Return the flat positions of at most ``count`` peaks, the highest first."""
        field = self.largest.view(self.shape)
        around = field
        for d in range(self.num_separate, len(self.shape)):
            if self.shape[d] == 1:
                continue
            edge = torch.full_like(around.narrow(d, 0, 1), -torch.inf)
            size = self.shape[d]
            left = torch.cat([edge, around.narrow(d, 0, size - 1)], dim=d)
            right = torch.cat([around.narrow(d, 1, size - 1), edge], dim=d)
            around = torch.maximum(around, torch.maximum(left, right))
        heights = torch.where(field >= around, field, -torch.inf).flatten()
        order = heights.sort(descending=True, stable=True).indices[:count]
        return self.position[order[heights[order] > -torch.inf]]
