"""The same training as a competent user of PyTorch writes it: modules, one model, a loop.

`nn.Linear` layers for f, e and q, the generated weights of g applied by `torch.baddbmm` to a batch of instances,
torch's own optimiser with ``zero_grad(set_to_none=True)``. The batches are ready made, by our objective, so
that their cost is not held against this loop.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hyperscale.methods.embedding import Embedding
from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.networks.mlp import Shape
from hyperscale.settings.approximation import Approximation
from hyperscale.training.optimizers import SGD, Adam
from hyperscale.training.trainer import TrainingRun

VARIANTS: dict[str, dict[str, bool]] = {
    "default": {},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
    "capturable": {"capturable": True, "fused": True},
}


def linear_stack(shape: Shape) -> nn.Sequential:
    """Return a ReLU network of `nn.Linear` layers with the given sizes and biases."""
    layers: list[nn.Module] = []
    for fan_in, fan_out, bias in shape.layers:
        layers += [nn.Linear(fan_in, fan_out, bias=bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class EagerHypernetwork(nn.Module):
    """g(x; f(I)): f a network of linear layers, g a batch of small networks, one per instance."""

    def __init__(self, f_shape: Shape, g_shape: Shape) -> None:
        super().__init__()
        self.f = linear_stack(f_shape)
        self.layers, self.parts = g_shape.layers, g_shape.part_sizes()

    def forward(self, x: Tensor, conditioning: Tensor) -> Tensor:
        """Return g(x; f(I)), [instances, points, output_dim], for x [instances, points, x_dim] and I."""
        parts = iter(self.f(conditioning).split(self.parts, dim=1))
        hidden = x
        for index, (fan_in, fan_out, bias) in enumerate(self.layers):
            weight = next(parts).unflatten(1, (fan_in, fan_out))
            hidden = torch.baddbmm(next(parts).unsqueeze(1), hidden, weight) if bias else torch.bmm(hidden, weight)
            if index < len(self.layers) - 1:
                hidden = torch.relu(hidden)
        return hidden

    def networks(self) -> list[nn.Sequential]:
        """Return the networks in the order of our flat parameters."""
        return [self.f]


class EagerEmbedding(nn.Module):
    """q([x, e(I)]): two networks of linear layers."""

    def __init__(self, e_shape: Shape, q_shape: Shape) -> None:
        super().__init__()
        self.e, self.q = linear_stack(e_shape), linear_stack(q_shape)

    def forward(self, x: Tensor, conditioning: Tensor) -> Tensor:
        """Return q([x, e(I)]), [instances, points, output_dim], for x [instances, points, x_dim] and I."""
        embedded = self.e(conditioning).unsqueeze(1).expand(-1, x.shape[1], -1)
        return self.q(torch.cat((x, embedded), dim=-1))

    def networks(self) -> list[nn.Sequential]:
        """Return the networks in the order of our flat parameters."""
        return [self.e, self.q]


EagerModel = EagerHypernetwork | EagerEmbedding


def eager_model(setting: Approximation) -> EagerModel:
    """Return the module that computes what the setting's method does."""
    method, dims = setting.method, setting.target.dims
    assert method.activation == "relu"
    if isinstance(method, Hypernetwork):
        return EagerHypernetwork(method.f_shape(dims), method.primary_shape(dims))
    assert isinstance(method, Embedding)
    return EagerEmbedding(method.e_shape(dims), method.primary_shape(dims))


def _tensors(model: EagerModel) -> list[Tensor]:
    """Return weights and biases in the order of our flat parameters."""
    layers = [layer for network in model.networks() for layer in network if isinstance(layer, nn.Linear)]
    return [tensor for layer in layers for tensor in (layer.weight, layer.bias) if tensor is not None]


def copy_parameters(model: EagerModel, flat: Tensor) -> None:
    """Copy one member's flat parameters, [fan_in, fan_out] layer after layer, into the module's [fan_out, fan_in]."""
    tensors = _tensors(model)
    with torch.no_grad():
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view(tensor.shape[::-1]).t())


def read_parameters(model: EagerModel) -> Tensor:
    """Return the module's parameters as our flat ones, [num_params]."""
    return torch.cat([tensor.detach().t().flatten() for tensor in _tensors(model)])


def eager_optimizer(setting: Approximation, parameters: Sequence[Tensor], variant: str) -> torch.optim.Optimizer:
    """Return torch's own optimiser for the setting's, in one of its implementations."""
    rule, options = setting.optimizer, VARIANTS[variant]
    if isinstance(rule, Adam):
        betas = (rule.beta1, rule.beta2)
        return torch.optim.Adam(parameters, lr=rule.lr, betas=betas, eps=rule.eps, **options)
    assert isinstance(rule, SGD)
    options = {name: value for name, value in options.items() if name != "capturable"}
    return torch.optim.SGD(parameters, lr=rule.lr, momentum=rule.momentum, **options)


def ready_batches(run: TrainingRun, member: int, count: int) -> list[Batch]:
    """Return the batches that ``member`` sees at the first ``count`` steps: x [B, n, m1], I [B, m2], y [B, n, 1]."""
    steps = (run.objective.batches.batch(step) for step in range(count))
    return [tuple(part[member].clone(memory_format=torch.contiguous_format) for part in batch) for batch in steps]


Batch = tuple[Tensor, Tensor, Tensor]


class EagerTrial:
    """One trial trained by itself; ``step`` is one iteration of the loop."""

    def __init__(
        self,
        setting: Approximation,
        flat: Tensor,
        batches: Sequence[Batch],
        variant: str = "default",
    ) -> None:
        self.batches = batches
        self.model = eager_model(setting).to(flat.device, flat.dtype)
        copy_parameters(self.model, flat)
        self.optimizer = eager_optimizer(setting, list(self.model.parameters()), variant)
        self.taken = 0

    def step(self) -> Tensor:
        """Take one optimiser step and return the loss before it."""
        x, conditioning, y = self.batches[self.taken % len(self.batches)]
        self.optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.mse_loss(self.model(x, conditioning), y)
        loss.backward()
        self.optimizer.step()
        self.taken += 1
        return loss.detach()


class GraphedTrial(EagerTrial):
    """One trial whose whole step is one CUDA graph: the batch is copied in, and the graph replayed."""

    def __init__(self, setting: Approximation, flat: Tensor, batches: Sequence[Batch]) -> None:
        self.inputs = tuple(part.clone() for part in batches[0])
        super().__init__(setting, flat, [self.inputs], "capturable")
        self.waiting, self.replays = batches, 0
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):  # before capture, so that lazily made buffers exist
                super().step()
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.loss = super().step()
        self._start_over(flat)

    def _start_over(self, flat: Tensor) -> None:
        """Undo the steps taken before capture, in place."""
        copy_parameters(self.model, flat)
        for state in self.optimizer.state.values():
            for value in state.values():
                if isinstance(value, Tensor):
                    value.zero_()

    def step(self) -> Tensor:
        """Take one optimiser step and return the loss before it."""
        for ours, new in zip(self.inputs, self.waiting[self.replays % len(self.waiting)], strict=True):
            ours.copy_(new)
        self.graph.replay()
        self.replays += 1
        return self.loss
