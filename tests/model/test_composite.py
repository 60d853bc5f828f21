"""Every capacity, taken alone, is an M2M-100 model: transformers' own is the oracle."""

import itertools
from collections.abc import Iterable

import pytest
import torch
from torch import Tensor
from transformers import M2M100Config, M2M100ForConditionalGeneration

from tests.tiny import LENGTH, VOCAB, Family, random_rows, shape, target_tokens, tiny_recipe
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.export.extract import capacity_state_dict
from tsjt_ds.model.composite import Composite, CompositeModel
from tsjt_ds.model.step import StepContext
from tsjt_ds.parallel.groups import World

FAMILIES: dict[str, Family] = {
    # Named as attributes of torch's classes are.
    "one": {"half": (2, 1)},
    "two": {"low": (1, 1), "high": (3, 2)},
    "same encoder": {"fast": (3, 1), "slow": (3, 3)},
    "same decoder": {"narrow": (1, 2), "wide": (4, 2)},
    # The deepest decoder is not with the deepest encoder, so that streams are put in order.
    "four, crossed": {"high": (4, 2), "low": (2, 1), "mid": (4, 1), "talker": (1, 3)},
    "width": {"narrow": shape(2, 2, ffn_dim=16), "wide": (2, 2)},
    "depth and width": {"low": shape(1, 1, ffn_dim=24), "high": (3, 2)},
    # The deepest is not the widest, so that a block's streams are not the leading ones.
    "three, crossed": {
        "tall": shape(4, 3, ffn_dim=16),
        "small": shape(1, 1, ffn_dim=16),
        "wide": (2, 2),
    },
    "four widths": {
        "a": shape(2, 1, ffn_dim=8),
        "b": shape(2, 2, ffn_dim=16),
        "c": shape(3, 2, ffn_dim=40),
        "d": (2, 2),
    },
}
"""Dense capacities."""
SPARSE_FAMILIES: dict[str, Family] = {
    "experts": {"low": (2, 2), "high": shape(4, 4, experts=4)},
    # With one encoder layer, which is dense, all have the same memory.
    "experts on one memory": {"dense": (1, 2), "three": shape(1, 3, experts=3), "deep": (1, 4)},
    "experts, depth and width": {
        "narrow": shape(3, 2, ffn_dim=16),
        "dense": (2, 2),
        "three": shape(2, 4, experts=3),
        "five": shape(4, 2, experts=5),
    },
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
        encoder_ffn_dim=recipe.model.ffn_dim_of(capacity),
        decoder_ffn_dim=recipe.model.ffn_dim_of(capacity),
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


def dense(family: Family) -> list[str]:
    """The capacities that are M2M-100 models."""
    return [c for c, of in family.items() if not isinstance(of, dict) or of.get("experts", 1) == 1]


ALL_FAMILIES = FAMILIES | SPARSE_FAMILIES


@pytest.mark.parametrize("family", ALL_FAMILIES.values(), ids=ALL_FAMILIES.keys())
def test_logits_equal_transformers(world: World, family: Family) -> None:
    recipe = tiny_recipe(family)
    model = composite_model(recipe).eval()
    ints_BN = random_rows(2, seed=1)
    wiring = model.composite.wiring
    assert set(wiring.finished) == set(family)
    with torch.no_grad():
        outputs = dict(zip(wiring.finished, model.states(ints_BN).outputs_BTD, strict=True))
        for capacity in dense(family):
            huggingface = huggingface_model(recipe, capacity, model)
            for row, span, source, labels in segments(ints_BN):
                expected = huggingface(input_ids=source[None], labels=labels[None]).logits[0]
                found = outputs[capacity][row, span] @ model.embedding.tokens.weight.T
                torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["four, crossed", "four widths", "experts, depth and width"])
def test_a_capacity_does_not_see_which_others_are_active(world: World, family: str) -> None:
    """All subsets compute the same; what none of the active capacities owns gets no gradient."""
    model = composite_model(tiny_recipe(ALL_FAMILIES[family], dropout=0.0)).eval()
    ints_BN = random_rows(1, seed=7)
    everyone = ALL_FAMILIES[family].keys()
    owners = model.composite.owners()
    expected = dict(
        zip(model.composite.wiring.finished, model.states(ints_BN).outputs_BTD, strict=True)
    )
    for active in subsets(everyone):
        streams = model.states(ints_BN, active=active)
        finished = model.composite.wiring_of(active).finished
        assert set(finished) == active
        for capacity, output_BTD in zip(finished, streams.outputs_BTD, strict=True):
            torch.testing.assert_close(output_BTD, expected[capacity], rtol=0, atol=1e-6)
        model.zero_grad(set_to_none=True)
        sum(output_BTD.square().sum() for output_BTD in streams.outputs_BTD).backward()
        for name, parameter in model.canonical_parameters():
            assert (parameter.grad is not None) == bool(owners(name) & active), name


@pytest.mark.parametrize("family", ALL_FAMILIES.values(), ids=ALL_FAMILIES.keys())
def test_every_parameter_is_some_capacitys(world: World, family: Family) -> None:
    model = CompositeModel(Composite(tiny_recipe(family)))
    owners = model.composite.owners()
    owned = [owners(name) for name, _ in model.canonical_parameters()]
    assert all(owned)
    assert frozenset.union(*owned) == family.keys()


def test_no_active_capacity(world: World) -> None:
    """A micro-batch that trains nothing runs through."""
    model = composite_model(tiny_recipe())
    assert not model.states(random_rows(1, seed=8), active=frozenset()).outputs_BTD


def subsets(names: Iterable[str]) -> list[frozenset[str]]:
    """All but the empty one."""
    chosen = list(names)
    return [
        frozenset(subset)
        for size in range(1, len(chosen) + 1)
        for subset in itertools.combinations(chosen, size)
    ]


NARROW_AND_WIDE: Family = {"low": shape(1, 1, ffn_dim=24), "high": (3, 2)}


@pytest.mark.parametrize("family", [None, NARROW_AND_WIDE], ids=["depth", "depth and width"])
def test_losses_equal_transformers(world: World, family: Family | None) -> None:
    """The reported losses are token means; the objective is their weighted sum."""
    recipe = tiny_recipe(family, dropout=0.0, label_smoothing=0.2)
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


@pytest.mark.parametrize("capacity", ["low", "high"])
@pytest.mark.parametrize("family", [None, NARROW_AND_WIDE], ids=["depth", "depth and width"])
def test_gradients_equal_transformers(world: World, family: Family | None, capacity: str) -> None:
    """With all weight on one capacity, its gradients are those of the standalone model."""
    recipe = tiny_recipe(family, dropout=0.0, label_smoothing=0.0)
    model = composite_model(recipe).train()
    ints_BN = random_rows(2, seed=3)
    weights = {"low": 0.0, "high": 0.0} | {capacity: 1.0}
    model.context = context(ints_BN, weights)
    model(ints_BN).backward()
    gradients = {name: p.grad for name, p in model.canonical_parameters() if p.grad is not None}
    huggingface = huggingface_model(recipe, capacity, model)
    for _, _, source, labels in segments(ints_BN):
        logits = huggingface(input_ids=source[None], labels=labels[None]).logits[0]
        loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
        (loss / target_tokens(ints_BN)).backward()
    expected = dict(huggingface.named_parameters())
    for name, gradient in capacity_state_dict(gradients, recipe.model, capacity).items():
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
