"""The plan of a run as text: one block a question. Imports no torch."""

from tsjt_ds.config.deepspeed import DeepSpeedConfig
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.model.parameters import capacity_parameters, composite_parameters
from tsjt_ds.parallel.layout import Layout
from tsjt_ds.planning.checks import Checked
from tsjt_ds.planning.cluster import Cluster
from tsjt_ds.planning.compute import RowCost
from tsjt_ds.planning.coverage import measure_coverage
from tsjt_ds.planning.data_report import data_blocks, unprepared_blocks
from tsjt_ds.planning.prediction import Prediction
from tsjt_ds.planning.prediction_report import prediction_blocks
from tsjt_ds.planning.stage_table import Line, lines_of, stage_rows, step_rows
from tsjt_ds.planning.units import si
from tsjt_ds.text_table import align


def plan_text(
    checked: Checked,
    every_step: bool,
    cluster: Cluster | None = None,
    apart_steps: int | None = None,
) -> str:
    """All that is known before the run; speed is predicted for a cluster.

    Args:
        apart_steps: of each capacity trained apart, with which this run's compute is compared;
            None: as many as the capacity has here.

    Raises:
        UserError: the prepared data is damaged.
    """
    recipe, config = checked.recipe, checked.config
    teacher, notes = checked.teacher, _teacher_notes(checked)
    cost, lines = RowCost(recipe, teacher), lines_of(recipe)
    micro_batches = config.accumulation * config.data_parallel if config else 0
    blocks = [
        _heading(recipe, config),
        align(stage_rows(lines, list(recipe.model.capacities)) + _stage_costs(lines, cost, config)),
        align(step_rows(lines, list(recipe.model.capacities), micro_batches, every_step)),
        _parameters(recipe),
        _compute(recipe, lines, cost, config, apart_steps),
    ]
    row_tokens = float(recipe.data.row_target_tokens)
    if checked.prepared is not None:
        coverage = measure_coverage(checked.prepared, recipe)
        row_tokens = coverage.settled.target_tokens_per_row
        blocks += data_blocks(recipe, coverage, lines, config)
    else:
        blocks += unprepared_blocks(recipe)
        notes.append(
            f"{recipe.prepared_path}: holds no prepared data yet (run `tsjt prepare`), so pairs, "
            "tokens, repeats and epochs are not known"
        )
    if config is not None:
        prediction = Prediction(recipe, config, cluster, teacher)
        blocks += prediction_blocks(prediction, row_tokens)
    blocks += [f"note: {note}" for note in notes]
    return "\n\n".join(blocks) + "\n"


def _teacher_notes(checked: Checked) -> list[str]:
    if not checked.awaited:
        return []
    known = ", which training needs" if checked.teacher else ", so the teacher's FLOPs are left out"
    return [checked.awaited + known]


def _heading(recipe: Recipe, config: DeepSpeedConfig | None) -> str:
    most = ", at most" if any(stage.until for stage in recipe.schedule.stages) else ""
    text = f"{recipe.name}: {recipe.schedule.steps:,} joint steps{most}"
    if config is None:
        return text
    layout = Layout(config.tsjt.pipeline, config.tsjt.tensor, config.data_parallel)
    return (
        f"{text}\n{layout}, ZeRO-{config.zero_stage}, {config.precision}; {config.rows_per_step:,} "
        f"rows a step: {config.accumulation} micro-batches of {config.micro_batch_rows} on each "
        f"of {config.data_parallel} data-parallel ranks"
    )


def _stage_costs(
    lines: list[Line], cost: RowCost, config: DeepSpeedConfig | None
) -> list[list[str]]:
    """FLOPs of a step of each stage, expected and at its mean, and of the whole stage."""
    rows = config.rows_per_step if config else 1
    totals, means = [], []
    for line in lines:
        for index, stage in enumerate(line.schedule.stages):
            total = rows * cost.of_stage(line.schedule, index)
            totals.append(si(total))
            means.append(si(total / (stage.steps or 1)))
    unit = "step" if config else "row"
    total_of = "FLOPs of the stage" if config else "FLOPs of a row at every step"
    return [[f"FLOPs of a {unit}", *means], [total_of, *totals]]


def _parameters(recipe: Recipe) -> str:
    model, vocab_size = recipe.model, recipe.tokenizer.vocab_size
    rows = [
        [capacity, f"{capacity_parameters(model, capacity, vocab_size):,}"]
        for capacity in model.capacities
    ]
    composite = f"{composite_parameters(model, vocab_size):,}"
    return align([["capacity", "parameters"], *rows, ["composite", composite]])


def _compute(
    recipe: Recipe,
    lines: list[Line],
    cost: RowCost,
    config: DeepSpeedConfig | None,
    apart_steps: int | None,
) -> str:
    """FLOPs of each line, beside those of training each capacity apart."""
    rows_per_step = config.rows_per_step if config else 1
    here = {line.name: rows_per_step * cost.of_schedule(line.schedule) for line in lines}
    steps = {
        name: apart_steps or recipe.schedule.steps + _own_steps(recipe, name)
        for name in recipe.model.capacities
    }
    apart = {name: rows_per_step * cost.alone(name) * count for name, count in steps.items()}
    total, total_apart = sum(here.values()), sum(apart.values())
    unit = "FLOPs" if config else "FLOPs of a row at every step"
    table = [["line of training", "steps", unit]]
    for line in lines:
        count = line.schedule.steps - line.schedule.first_step
        table.append([line.name, f"{count:,}", si(here[line.name])])
    table.append(["this run", "", si(total)])
    table += [[f"{name} apart", f"{steps[name]:,}", si(flops)] for name, flops in apart.items()]
    table.append(["all apart", "", si(total_apart)])
    share = f"this run takes {total / total_apart:.2f} of the compute of all apart"
    if apart_steps is None:
        share += " for as many steps (--apart-steps N: for N)"
    return f"{align(table)}\n{share}"


def _own_steps(recipe: Recipe, capacity: str) -> int:
    separate = recipe.schedule.separate_stage
    return separate.separate.get(capacity, 0) if separate else 0
