import pytest

from tests.tiny import shape, tiny_recipe
from tsjt_ds.config.deepspeed_sections import TsjtSection
from tsjt_ds.config.layout_rules import check_layout
from tsjt_ds.errors import UserError


def mistakes(tensor: int, ffn_dim: int) -> list[str]:
    recipe = tiny_recipe({"low": shape(1, 1, ffn_dim=ffn_dim), "high": (3, 2)})
    try:
        check_layout(recipe, TsjtSection(tensor=tensor), "ds.json")
    except UserError as error:
        return str(error).splitlines()
    return []


@pytest.mark.parametrize(("tensor", "ffn_dim"), [(1, 17), (2, 18), (4, 16)])
def test_a_width_that_every_tensor_rank_gets_a_part_of(tensor: int, ffn_dim: int) -> None:
    assert mistakes(tensor, ffn_dim) == []


@pytest.mark.parametrize(("tensor", "ffn_dim"), [(2, 17), (4, 18)])
def test_a_width_that_tensor_ranks_cannot_share(tensor: int, ffn_dim: int) -> None:
    assert mistakes(tensor, ffn_dim) == [
        f"ds.json: tsjt.tensor: {tensor} does not divide the recipe's "
        f"model.capacities.low.ffn_dim, {ffn_dim} (change one of the two)"
    ]
