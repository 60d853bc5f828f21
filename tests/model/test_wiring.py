"""Streams split where capacities differ, are ordered for cheap dropping, and name their owners."""

import pytest

from tests.tiny import Family, shape, tiny_recipe
from tsjt_ds.model.composite import Composite
from tsjt_ds.model.wiring import Branch, Ending, LayerWiring, StreamCounts, Wiring, block_sizes


def wiring(family: Family, active: set[str] | None = None) -> Wiring:
    return Wiring(tiny_recipe(family).model, None if active is None else frozenset(active))


def branches(layer: LayerWiring) -> list[tuple[int, int, int]]:
    return [(branch.parent, branch.blocks, branch.experts) for branch in layer.branches]


DEPTH: Family = {"low": (1, 1), "high": (3, 2)}
WIDTH: Family = {"low": shape(1, 2, ffn_dim=16), "high": (3, 2)}
EXPERTS: Family = {"low": (1, 2), "high": shape(1, 3, experts=4)}


def test_depth_alone_has_one_encoder_stream() -> None:
    first, second, third = wiring(DEPTH).encoder
    assert first == LayerWiring(1, (Branch(0, 1, 1),), (Ending("low", 0),), living=(0,))
    assert second == LayerWiring(1, (Branch(0, 1, 1),), (), living=(0,))
    assert third == LayerWiring(1, (Branch(0, 1, 1),), (Ending("high", 0),), living=())


def test_depth_alone_has_a_decoder_stream_a_memory_deepest_first() -> None:
    found = wiring(DEPTH)
    assert found.memory_order == (1, 0)
    first, second = found.decoder
    assert first.streams_in == 1
    assert first.memory_of == (0, 1)
    assert branches(first) == [(0, 1, 1), (1, 1, 1)]
    assert first.endings == (Ending("low", 1),)
    assert first.living == first.living_memories == (0,)
    assert second == LayerWiring(
        1, (Branch(0, 1, 1),), (Ending("high", 0),), living=(), memory_of=(0,)
    )
    assert found.finished == ["low", "high"]


def test_widths_split_behind_the_first_attention() -> None:
    first, second, _ = wiring(WIDTH).encoder
    assert first.streams_in == 1
    assert branches(first) == [(0, 2, 1), (0, 1, 1)]
    assert first.endings == (Ending("low", 1),)
    assert first.living == (0,)
    assert branches(second) == [(0, 2, 1)]


def test_experts_split_at_the_first_sparse_layer() -> None:
    """They share the memory, which the decoder's streams use both."""
    found = wiring(EXPERTS)
    assert found.encoder[0].endings == (Ending("low", 0),)
    first, second, third = found.decoder
    assert branches(first) == [(0, 1, 1)]
    assert branches(second) == [(0, 1, 4), (0, 1, 1)]
    assert second.memories == 1
    assert second.endings == (Ending("low", 1),)
    assert third.memory_of == (0,)
    assert branches(third) == [(0, 1, 1)]


def test_streams_that_split_from_one_memory_keep_it() -> None:
    found = wiring({"low": (1, 3), "high": shape(1, 3, experts=4)})
    assert found.decoder[1].memory_of == (0,)
    assert found.decoder[2].memory_of == (0, 0)
    assert found.decoder[2].memories == 1
    assert found.decoder[2].streams_in == 2


def test_what_no_active_capacity_needs_is_left_out() -> None:
    found = wiring(DEPTH, {"low"})
    assert [layer.streams_in for layer in found.encoder] == [1, 0, 0]
    assert [layer.branches for layer in found.encoder[1:]] == [(), ()]
    assert [len(layer.branches) for layer in found.decoder] == [1, 0]
    assert found.finished == ["low"]
    assert not any(layer.branches for layer in wiring(DEPTH, set()).encoder)


def test_a_memorys_norm_keeps_its_name_whoever_is_active() -> None:
    family: Family = {"fast": (3, 1), "slow": (3, 3)}
    for active in ({"slow"}, {"fast"}, {"fast", "slow"}):
        assert wiring(family, active).encoder[2].endings == (Ending("fast", 0),)


def test_unknown_capacity() -> None:
    with pytest.raises(ValueError, match="no capacities"):
        wiring(DEPTH, {"teacher"})


def test_counts_and_length() -> None:
    found = wiring(EXPERTS).counts()
    assert found == [
        StreamCounts(encoder=1),
        StreamCounts(memory=1),
        StreamCounts(memory=1, decoder=1),
        StreamCounts(memory=1, decoder=1),
        StreamCounts(memory=1, decoder=1, outputs=1, auxiliary=True),
        StreamCounts(outputs=2, auxiliary=True),
    ]
    assert [counts.length(10, 7) for counts in found] == [10, 10, 17, 17, 25, 15]
    assert not any(counts.auxiliary for counts in wiring(EXPERTS, {"low"}).counts())


def test_columns_are_cut_where_a_width_ends() -> None:
    family: Family = {"a": shape(1, 1, ffn_dim=8), "b": (1, 1), "c": shape(2, 1, ffn_dim=24)}
    assert block_sizes(tiny_recipe(family).model) == [8, 16, 40]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("embedding.tokens.weight", "narrow low three five"),
        ("encoder.0.self_attn.out.bias", "narrow low three five"),
        ("encoder.2.ffn.bias", "narrow five"),
        ("encoder.0.ffn.blocks.0.fc1.weight", "narrow low three five"),
        ("encoder.0.ffn.blocks.1.fc2.weight", "low three five"),
        ("encoder.1.sparse.fc1_weight", "three five"),
        ("encoder.1.sparse.routers.3.weight", "three"),
        ("decoder.1.sparse.routers.5.weight", "five"),
        ("decoder.2.cross_attn_norm.weight", "three"),
        ("encoder.2.final_norms.narrow.bias", "narrow"),
        ("encoder.1.final_norms.low.weight", "low"),
        ("decoder.1.final_norms.five.weight", "five"),
    ],
)
def test_owners(name: str, expected: str) -> None:
    family: Family = {
        "narrow": shape(3, 2, ffn_dim=16),
        "low": (2, 2),
        "three": shape(2, 4, experts=3),
        "five": shape(4, 2, experts=5),
    }
    composite = Composite(tiny_recipe(family))
    assert composite.owners()(name) == frozenset(expected.split())
    owners = expected.split()
    part = "shared" if len(owners) > 1 else owners[0]
    assert composite.part(name) == ("embedding" if name.startswith("embedding") else part)


def test_a_shared_memory_is_owned_by_all_that_end_there() -> None:
    composite = Composite(tiny_recipe({"fast": (3, 1), "slow": (3, 3)}))
    assert composite.owners()("encoder.2.final_norms.fast.weight") == {"fast", "slow"}
    assert composite.owners()("decoder.0.final_norms.fast.weight") == {"fast"}
