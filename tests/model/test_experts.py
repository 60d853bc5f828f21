"""Transformers' NLLB-MoE router, experts and losses are the oracle."""

import math

import pytest
import torch
from torch import Tensor, nn
from transformers import NllbMoeConfig
from transformers.models.nllb_moe.modeling_nllb_moe import (
    NllbMoeSparseMLP,
    load_balancing_loss_func,
)

from tests.ranks import run_ranks
from tsjt_ds.config.model import ModelConfig
from tsjt_ds.model.experts import SparseFeedForward
from tsjt_ds.model.seeding import seed_generators
from tsjt_ds.parallel.groups import World
from tsjt_ds.parallel.layout import Layout
from tsjt_ds.parallel.megatron import column_parallel, row_parallel

B, L, D, F, COUNTS = 3, 10, 16, 32, [2, 4]


def model_config(**routing: float) -> ModelConfig:
    capacities = {"high": {"encoder_layers": 2, "decoder_layers": 2, "experts": max(COUNTS)}}
    return ModelConfig.model_validate(
        {
            "d_model": D,
            "attention_heads": 2,
            "ffn_dim": F,
            "routing": routing,
            "capacities": capacities,
        }
    )


class Dense(nn.Module):
    """Expert 0, cut over the tensor ranks."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = column_parallel(D, F, nn.init.xavier_uniform_)
        self.fc2 = row_parallel(F, D, nn.init.xavier_uniform_)

    def forward(self, x_ND: Tensor) -> Tensor:
        return self.fc2(self.fc1(x_ND)[0].relu())[0]


def build(config: ModelConfig) -> tuple[SparseFeedForward, Dense]:
    """Experts and the dense feed-forward; biases and routers are large enough to matter."""
    seed_generators("experts")
    sparse, dense = SparseFeedForward(config, COUNTS), Dense()
    with torch.no_grad():
        generator = torch.Generator().manual_seed(1)
        for router in sparse.routers.values():
            router.weight.copy_(torch.randn(router.weight.shape, generator=generator))
        sparse.fc2_bias.copy_(torch.randn(sparse.fc2_bias.shape, generator=generator))
    return sparse, dense


def inputs() -> tuple[Tensor, Tensor]:
    """Hidden states with a direction in common, so that experts overflow; the last are padding."""
    generator = torch.Generator().manual_seed(2)
    x_BLD = torch.randn(B, L, D, generator=generator) + 0.4
    is_token_BL = torch.ones(B, L, dtype=torch.bool)
    is_token_BL[1, 7:] = False
    is_token_BL[2, 4:] = False
    return x_BLD, is_token_BL


def transformers_layer(
    sparse: SparseFeedForward, dense: Dense, experts: int, **config: object
) -> NllbMoeSparseMLP:
    """The same weights in transformers' layer."""
    settings = NllbMoeConfig(
        d_model=D,
        num_experts=experts,
        moe_token_dropout=0.0,
        normalize_router_prob_before_dropping=True,
        **config,
    )
    layer = NllbMoeSparseMLP(settings, F)
    layer.router.classifier.weight.data = sparse.routers[str(experts)].weight.data
    layer.experts["expert_0"].load_state_dict(dict(dense.named_parameters()))
    for index, parameter in enumerate(list(sparse.parameters())[:4]):
        for expert in range(1, experts):
            theirs = list(layer.experts[f"expert_{expert}"].parameters())[index]
            theirs.data.copy_(parameter[expert - 1].data)
    return layer


def expected_output(layer: NllbMoeSparseMLP, x_BLD: Tensor, is_token_BL: Tensor) -> Tensor:
    """Every expert on every token, times the gates of transformers' router."""
    mask_B1LL = (~is_token_BL).float()[:, None, None].expand(-1, 1, L, -1)
    x_ND = x_BLD.flatten(0, 1)
    _, gates_NE, _ = layer.router(x_ND, mask_B1LL)
    outputs = [
        gates_NE[:, [e]] * layer.experts[f"expert_{e}"](x_ND) for e in range(gates_NE.shape[1])
    ]
    return torch.stack(outputs).sum(0).view(x_BLD.shape)


@pytest.mark.parametrize("experts", COUNTS)
def test_evaluation_equals_transformers_and_drops_nothing(world: World, experts: int) -> None:
    sparse, dense = build(model_config(capacity_factor=0.1))
    x_BLD, is_token_BL = inputs()
    layer = transformers_layer(sparse, dense, experts).eval()
    found, _ = sparse.eval()(x_BLD, dense, experts, is_token_BL)
    torch.testing.assert_close(found, expected_output(layer, x_BLD, is_token_BL), rtol=0, atol=1e-6)
    load = sparse.loads[experts]
    assert load.dropped == 0
    assert int(load.choices_E.sum()) == 2 * int(is_token_BL.sum())
    assert not found[~is_token_BL].any()


def test_training_drops_as_transformers_does(world: World) -> None:
    factor, experts = 0.8, 4
    sparse, dense = build(model_config(capacity_factor=factor))
    x_BLD, is_token_BL = inputs()
    capacity = math.ceil(factor * int(is_token_BL.sum()) / experts)
    layer = transformers_layer(sparse, dense, experts, expert_capacity=capacity).train()
    found, _ = sparse.train()(x_BLD, dense, experts, is_token_BL)
    torch.testing.assert_close(found, expected_output(layer, x_BLD, is_token_BL), rtol=0, atol=1e-6)
    load = sparse.loads[experts]
    assert load.dropped == int((load.choices_E - capacity).clamp(min=0).sum()) > 0


def test_no_capacity_factor_drops_nothing(world: World) -> None:
    sparse, dense = build(model_config(capacity_factor=0.0))
    x_BLD, is_token_BL = inputs()
    sparse.train()(x_BLD, dense, 4, is_token_BL)
    assert sparse.loads[4].dropped == 0


def test_auxiliary_loss_equals_transformers(world: World) -> None:
    x_BLD, is_token_BL = inputs()
    for routing in ({"load_balancing": 0.3, "z_loss": 0.0}, {"load_balancing": 0.0, "z_loss": 0.2}):
        sparse, dense = build(model_config(**routing))
        _, found = sparse(x_BLD, dense, 4, is_token_BL)
        logits_NE = x_BLD.flatten(0, 1) @ sparse.routers["4"].weight.T
        balancing = load_balancing_loss_func((logits_NE,), 4, 2, is_token_BL.long())
        z_loss = logits_NE[is_token_BL.flatten()].logsumexp(-1).square().mean()
        expected = routing["load_balancing"] * balancing + routing["z_loss"] * z_loss
        torch.testing.assert_close(found, expected)


def test_padding_counts_for_nothing(world: World) -> None:
    """What stands in padding changes neither the tokens' outputs, nor the loss, nor the load."""
    sparse, dense = build(model_config(capacity_factor=0.8))
    x_BLD, is_token_BL = inputs()
    y_BLD, auxiliary = sparse.train()(x_BLD, dense, 4, is_token_BL)
    load = sparse.loads[4]
    changed_BLD = x_BLD.masked_fill(~is_token_BL[..., None], 9.0)
    other_BLD, other = sparse(changed_BLD, dense, 4, is_token_BL)
    assert torch.equal(y_BLD, other_BLD)
    torch.testing.assert_close(auxiliary, other)
    assert load.choices_E.tolist() == sparse.loads[4].choices_E.tolist()


def test_gradients_equal_transformers(world: World) -> None:
    sparse, dense = build(model_config())
    x_BLD, is_token_BL = inputs()
    layer = transformers_layer(sparse, dense, 4).eval()
    ours, theirs = x_BLD.clone().requires_grad_(), x_BLD.clone().requires_grad_()
    sparse.eval()(ours, dense, 4, is_token_BL)[0].square().sum().backward()
    expected_output(layer, theirs, is_token_BL).square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)
    of_router = layer.router.classifier.weight.grad
    torch.testing.assert_close(sparse.routers["4"].weight.grad, of_router, rtol=1e-4, atol=1e-4)
    for index, parameter in enumerate(list(sparse.parameters())[:4]):
        for row, gradient in enumerate(parameter.grad):
            expected = list(layer.experts[f"expert_{row + 1}"].parameters())[index].grad
            torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-4)


def test_only_padding_is_no_error(world: World) -> None:
    sparse, dense = build(model_config())
    x_BLD, is_token_BL = inputs()
    y_BLD, auxiliary = sparse.train()(x_BLD, dense, 4, torch.zeros_like(is_token_BL))
    auxiliary.backward()
    assert not y_BLD.any()
    assert float(auxiliary.detach()) == 0
    assert torch.isfinite(sparse.routers["4"].weight.grad).all()


def test_bf16_routes_in_fp32(world: World) -> None:
    """Gates come from fp32 logits of the bf16 weights, not from bf16 ones."""
    sparse, dense = build(model_config(load_balancing=0.0, z_loss=1.0))
    x_BLD, is_token_BL = inputs()
    sparse, dense, x_BLD = sparse.bfloat16(), dense.bfloat16(), x_BLD.bfloat16()
    y_BLD, auxiliary = sparse.eval()(x_BLD, dense, 4, is_token_BL)
    assert y_BLD.dtype == torch.bfloat16
    assert auxiliary.dtype == torch.float32
    logits_BLE = x_BLD.float() @ sparse.routers["4"].weight.float().T
    expected = logits_BLE[is_token_BL].logsumexp(-1).square().mean()
    torch.testing.assert_close(auxiliary, expected, rtol=1e-6, atol=0)


def test_experts_start_apart(world: World) -> None:
    sparse = SparseFeedForward(model_config(), COUNTS)
    first, second, third = sparse.fc1_weight
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)
    bound = math.sqrt(6 / (D + F))
    assert 0.9 * bound < float(first.detach().abs().max()) <= bound


def gradients(world: World) -> dict[str, tuple[Tensor, int | None]]:
    """Output, loss and gradients of a step that drops tokens, and along which axis each is cut."""
    sparse, dense = build(model_config(capacity_factor=0.8, load_balancing=0.1, z_loss=0.1))
    x_BLD, is_token_BL = inputs()
    x_BLD.requires_grad_()
    y_BLD, auxiliary = sparse.train()(x_BLD, dense, 4, is_token_BL)
    (y_BLD.square().sum() + auxiliary).backward()
    result = {"y": y_BLD.detach(), "auxiliary": auxiliary.detach(), "x": x_BLD.grad}
    for name, parameter in [*sparse.named_parameters(), *dense.named_parameters()]:
        if parameter.grad is not None:
            result[name] = parameter.grad
    cut = {
        name: parameter.partition_dim
        for name, parameter in [*sparse.named_parameters(), *dense.named_parameters()]
        if getattr(parameter, "tensor_model_parallel", False)
    }
    return {name: (tensor, cut.get(name)) for name, tensor in result.items()}


@pytest.mark.parallel
def test_cut_over_tensor_ranks_equals_one_process(world: World) -> None:
    whole = gradients(world)
    ranks = run_ranks(gradients, Layout(1, 2, 1))
    assert {"fc1_weight", "fc1_bias", "fc2_weight", "fc2_bias", "routers.4.weight"} < set(whole)
    for name, (expected, _) in whole.items():
        dim = ranks[0][name][1]
        parts = [rank[name][0] for rank in ranks]
        if dim is None:
            assert torch.equal(*parts), name
        found = parts[0] if dim is None else torch.cat(parts, dim)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, msg=name)
