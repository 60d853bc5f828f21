"""Every capacity, taken alone, is an M2M-100 model: transformers' own is the oracle."""

import pytest
import torch
from torch import Tensor
from transformers import M2M100Config, M2M100ForConditionalGeneration

from tests.tiny import LENGTH, VOCAB, random_rows, target_tokens, tiny_recipe
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.export.extract import capacity_state_dict
from tsjt_ds.model.composite import Composite, CompositeModel
from tsjt_ds.model.step import StepContext
from tsjt_ds.parallel.groups import World

FAMILIES = {
    "one": {"only": (2, 1)},
    "two": {"low": (1, 1), "high": (3, 2)},
    "same encoder": {"fast": (3, 1), "slow": (3, 3)},
    "same decoder": {"narrow": (1, 2), "wide": (4, 2)},
    # The deepest decoder is not with the deepest encoder, so that streams are put in order.
    "four, crossed": {"high": (4, 2), "low": (2, 1), "mid": (4, 1), "talker": (1, 3)},
}


def composite_model(recipe: Recipe) -> CompositeModel:
    """A composite with noise on all its weights, so that biases and norms matter."""
    model = CompositeModel(Composite(recipe))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _, parameter in model.canonical_parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def context(
    ints_BN: Tensor, weights: dict[str, float], step: int = 0, micro_batches: int = 1
) -> StepContext:
    """A step that computes all capacities on some micro-batches, all the same."""
    active, tokens = frozenset(weights), target_tokens(ints_BN)
    return StepContext(step, weights, (active,) * micro_batches, (tokens,) * micro_batches)


def huggingface_model(recipe: Recipe, capacity: str, model: CompositeModel) -> torch.nn.Module:
    """The capacity as transformers builds it, with dropout off."""
    depth = recipe.model.capacities[capacity]
    config = M2M100Config(
        vocab_size=VOCAB,
        d_model=recipe.model.d_model,
        encoder_layers=depth.encoder_layers,
        decoder_layers=depth.decoder_layers,
        encoder_attention_heads=recipe.model.attention_heads,
        decoder_attention_heads=recipe.model.attention_heads,
        encoder_ffn_dim=recipe.model.ffn_dim,
        decoder_ffn_dim=recipe.model.ffn_dim,
        max_position_embeddings=LENGTH,
    )
    huggingface = M2M100ForConditionalGeneration(config).eval()
    state = capacity_state_dict(dict(model.canonical_parameters()), recipe.model, capacity)
    result = huggingface.load_state_dict(state, strict=False)
    assert not result.unexpected_keys
    assert all("embed_tokens" in key or "lm_head" in key for key in result.missing_keys)
    huggingface.tie_weights()
    return huggingface


def segments(ints_BN: Tensor) -> list[tuple[int, slice, Tensor, Tensor]]:
    """Of each packed pair: its row, where its labels lie, source ids, labels."""
    found = []
    for row, (source, source_segments, labels, target_segments) in enumerate(
        ints_BN.unflatten(1, (4, LENGTH))
    ):
        for number in range(1, int(source_segments.max()) + 1):
            place = (target_segments == number).nonzero().flatten()
            span = slice(int(place[0]), int(place[-1]) + 1)
            found.append((row, span, source[source_segments == number], labels[span]))
    return found


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
def test_logits_equal_transformers(world: World, family: dict[str, tuple[int, int]]) -> None:
    recipe = tiny_recipe(family)
    model = composite_model(recipe).eval()
    ints_BN = random_rows(3, seed=1)
    wiring = model.composite.wiring
    assert set(wiring.finished) == set(family)
    with torch.no_grad():
        outputs = model.states(ints_BN).outputs_BTD
        for capacity, output_BTD in zip(wiring.finished, outputs, strict=True):
            huggingface = huggingface_model(recipe, capacity, model)
            for row, span, source, labels in segments(ints_BN):
                expected = huggingface(input_ids=source[None], labels=labels[None]).logits[0]
                found = output_BTD[row, span] @ model.embedding.tokens.weight.T
                torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_losses_equal_transformers(world: World) -> None:
    """The reported losses are token means; the objective is their weighted sum."""
    recipe = tiny_recipe(dropout=0.0, label_smoothing=0.2)
    model = composite_model(recipe).train()
    ints_BN = random_rows(3, seed=2)
    model.context = context(ints_BN, {"low": 0.25, "high": 0.75})
    objective = model(ints_BN)
    assert model.losses is not None
    for capacity in ("low", "high"):
        huggingface = huggingface_model(recipe, capacity, model)
        sums = torch.zeros(2)
        for _, _, source, labels in segments(ints_BN):
            with torch.no_grad():
                logits = huggingface(input_ids=source[None], labels=labels[None]).logits[0]
            for index, smoothing in enumerate((0.2, 0.0)):
                sums[index] += torch.nn.functional.cross_entropy(
                    logits, labels, reduction="sum", label_smoothing=smoothing
                )
        loss, nll = sums / target_tokens(ints_BN)
        torch.testing.assert_close(model.losses.by_name[f"{capacity}/loss"], loss)
        torch.testing.assert_close(model.losses.by_name[f"{capacity}/nll"], nll)
    by_name = model.losses.by_name
    torch.testing.assert_close(objective, 0.25 * by_name["low/loss"] + 0.75 * by_name["high/loss"])


def test_gradients_equal_transformers(world: World) -> None:
    """With all weight on one capacity, its gradients are those of the standalone model."""
    recipe = tiny_recipe(dropout=0.0, label_smoothing=0.0)
    model = composite_model(recipe).train()
    ints_BN = random_rows(2, seed=3)
    model.context = context(ints_BN, {"low": 1.0, "high": 0.0})
    model(ints_BN).backward()
    gradients = {name: p.grad for name, p in model.canonical_parameters() if p.grad is not None}
    huggingface = huggingface_model(recipe, "low", model)
    huggingface.train()
    for module in huggingface.modules():
        if hasattr(module, "dropout") and isinstance(module.dropout, float):
            module.dropout = 0.0
    for _, _, source, labels in segments(ints_BN):
        logits = huggingface(input_ids=source[None], labels=labels[None]).logits[0]
        loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
        (loss / target_tokens(ints_BN)).backward()
    expected = dict(huggingface.named_parameters())
    for name, gradient in capacity_state_dict(gradients, recipe.model, "low").items():
        torch.testing.assert_close(gradient, expected[name].grad, rtol=1e-4, atol=1e-6)


def test_no_token_of_one_segment_sees_another(world: World) -> None:
    """Changing one pair of a row leaves the other pairs' states as they were, to the last bit."""
    model = composite_model(tiny_recipe()).eval()
    ints_BN = random_rows(1, seed=4, segments=3)
    changed_BN = ints_BN.clone()
    for side in (0, 2):
        ids, numbers = (
            changed_BN[:, (side + k) * LENGTH : (side + k + 1) * LENGTH] for k in (0, 1)
        )
        ids[numbers == 2] = 7
        ids[(numbers == 2) & (numbers.roll(-1, 1) != 2)] = 2
    with torch.no_grad():
        before = model.states(ints_BN).outputs_BTD
        after = model.states(changed_BN).outputs_BTD
    numbers = ints_BN[0, 3 * LENGTH :]
    for one, other in zip(before, after, strict=True):
        for segment in (1, 3):
            assert torch.equal(one[0, numbers == segment], other[0, numbers == segment])
        assert not torch.allclose(one[0, numbers == 2], other[0, numbers == 2])


def test_padding_makes_no_nan_and_no_gradient(world: World) -> None:
    """Rows with padding on one side alone."""
    model = composite_model(tiny_recipe(dropout=0.0)).train()
    ints_BN = random_rows(1, seed=5)
    sides = ints_BN.view(4, LENGTH)
    sides[0], sides[1] = 5, 1  # No padding among the sources, and one long segment.
    sides[3] = (sides[3] > 0).long()
    model.context = context(ints_BN, {"low": 0.5, "high": 0.5})
    model(ints_BN).backward()
    for name, parameter in model.canonical_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_dropout_depends_on_step_and_micro_batch_alone(world: World) -> None:
    model = composite_model(tiny_recipe(dropout=0.3)).train()
    ints_BN = random_rows(2, seed=6)

    def objective(step: int, micro_batch: int) -> float:
        model.context = context(ints_BN, {"low": 0.5, "high": 0.5}, step, micro_batches=3)
        torch.rand(step + 3)  # What was drawn before does not matter.
        return float(model(ints_BN, micro_batch).detach())

    assert objective(5, 1) == objective(5, 1)
    assert len({objective(5, 1), objective(5, 2), objective(6, 1)}) == 3


def test_initial_weights_depend_on_the_seed_alone(world: World) -> None:
    shallow = dict(CompositeModel(Composite(tiny_recipe({"low": (1, 1)}))).canonical_parameters())
    torch.rand(1)
    deep = dict(CompositeModel(Composite(tiny_recipe())).canonical_parameters())
    for name in (
        "embedding.tokens.weight",
        "encoder.0.ffn.blocks.0.fc1.weight",
        "decoder.0.self_attn.out.weight",
    ):
        assert torch.equal(shallow[name], deep[name])
    other = tiny_recipe().model_copy(update={"seed": 2})
    changed = dict(CompositeModel(Composite(other)).canonical_parameters())
    assert not torch.equal(
        deep["encoder.0.ffn.blocks.0.fc1.weight"], changed["encoder.0.ffn.blocks.0.fc1.weight"]
    )
