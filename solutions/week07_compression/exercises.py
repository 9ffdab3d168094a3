"""Week 7: points, cases and mistakes of the exercises on compression.

B batch, T time, D model width, L layers, H heads, K head width, V classes. Cases are small, float32, with random weights that
are not square where they need not be; every random number comes from the generator handed in. What is rounded stays away from
the middle between two steps, except where a case is about just that: then scales are powers of two, so that nothing is inexact.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from autograder import Artifact, Exercise, Mistake
from autograder.draws import integers, normal, uniform
from course.data import read
from course.drives.week04_transformer import pairs_asked, score_translation

Cases = list[tuple[str, dict]]
RESULTS = Path(__file__).with_name("results.json")


def heldout_pairs(heldout: Path) -> tuple[dict, dict]:
    """(inputs of the drive, key) of the grader's pages of LibreOffice's help."""
    return pairs_asked(read(heldout / "libreoffice_en_fr.parquet"))


def goals_of(results: Path, points: float) -> list[tuple[float, float]]:
    """Thresholds of the small translator, from the runs that results.json has of it.

    Full points at the mean of the seeds on held-out data and three standard deviations more, a hundredth at least: all seeds
    begin with the same network and differ little. Half of them at a tenth more than the mean. Before there are results, no
    figure is good enough.
    """
    found = json.loads(results.read_text(encoding="utf-8"))["artifacts"] if results.exists() else {}
    if "small_translator" not in found:
        return [(-math.inf, points)]
    mean, sd = (found["small_translator"]["heldout"][what] for what in ("mean", "sd"))
    return [(mean + max(3 * sd, 0.01 * mean), points), (1.1 * mean, points / 2)]


def number(rng: torch.Generator, low: int, high: int) -> int:
    """A whole number from low to high."""
    return low + int(torch.randint(high - low + 1, (), generator=rng))


# ---------------------------------------------------------------------------------------------------- eight bits


def clear(steps: Tensor) -> bool:
    """Whether all stay away from the middle between two whole numbers."""
    return bool((steps - steps.floor() - 0.5).abs().min() > 0.004)


def rounded_clearly(x: Tensor, scheme: str, axis: int | None) -> bool:
    channels = [x] if axis is None else x.unbind(axis)
    for one in channels:
        lo, hi = min(0.0, float(one.min())), max(0.0, float(one.max()))
        scale = (hi - lo) / 255 if scheme == "affine" else max(-lo, hi) / 127
        if scale and not (clear(one / scale) and (scheme == "symmetric" or clear(torch.tensor(lo / scale)))):
            return False
    return True


def drawn(make: Callable[[], Tensor], scheme: str, axis: int | None = None) -> Tensor:
    """A tensor in which nothing is nearly half way between two steps; made anew until it is so."""
    while True:
        x = make()
        if rounded_clearly(x, scheme, axis):
            return x


def quantize_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, scheme: str, axis: int | None, make: Callable[[], Tensor]) -> tuple[str, dict]:
        return kind, {"x": drawn(make, scheme, axis), "scheme": scheme, "axis": axis}

    def exactly(kind: str, scheme: str, steps: list[float]) -> tuple[str, dict]:
        return kind, {"x": torch.tensor(steps) * 2.0 ** -number(rng, 2, 6), "scheme": scheme, "axis": None}

    rows = torch.tensor([[0.1], [3.0], [0.7]])
    low = float(number(rng, 20, 50) * 2 + 1)
    halves = [k + 0.5 for k in (-3.0, 0.0, 1.0, 2.0, 7.0, 10.0)]
    return [
        case("affine, one scale", "affine", None, lambda: normal(rng, 3, 4, mean=0.7)),
        case("symmetric, one scale", "symmetric", None, lambda: normal(rng, 4, 3, mean=-0.5)),
        case("symmetric, a scale for each row", "symmetric", 0, lambda: normal(rng, 3, 5) * rows),
        case("affine, a scale for each row, as many rows as columns", "affine", 0, lambda: normal(rng, 3, 3) * rows),
        case("affine, three axes, channels in the middle", "affine", 1, lambda: normal(rng, 2, 3, 3) * rows),
        case("affine, all values positive", "affine", None, lambda: 2 + uniform(rng, 7)),
        case("affine, all values negative", "affine", None, lambda: -1 - uniform(rng, 5)),
        exactly("symmetric, half way between two steps", "symmetric", [127.0, -20.5, 5.0, *halves]),
        exactly("affine, half way between two steps", "affine", [-low, 255.0 - low, *halves]),
        exactly("affine, ends half way between two steps", "affine", [-253.5, 1.5, -7.0, 0.0]),
        ("zeros, affine", {"x": torch.zeros(2, 2), "scheme": "affine", "axis": None}),
        case("a row of zeros", "symmetric", 0, lambda: normal(rng, 3, 2) * torch.tensor([[1.0], [0.0], [2.0]])),
        ("an unknown scheme", {"x": normal(rng, 3), "scheme": "int4", "axis": None}),
    ]


def whole(rng: torch.Generator, *shape: int) -> Tensor:
    """int8 from -127 to 127."""
    return (integers(rng, 255, *shape) - 127).to(torch.int8)


def dequantize_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, shape: tuple[int, ...], axis: int | None, affine: bool = True) -> tuple[str, dict]:
        channels = () if axis is None else (shape[axis],)
        zero_point = (integers(rng, 60, 1, *channels)[0] - 127) * affine
        inputs = {
            "q": whole(rng, *shape),
            "scale": 0.01 + uniform(rng, 1, *channels)[0],
            "zero_point": zero_point.to(torch.int32),
            "axis": axis,
        }
        inputs["q"].view(-1)[:2] = torch.tensor([120, -120], dtype=torch.int8)  # the ends, whatever was drawn
        return kind, inputs

    return [
        case("affine, one scale", (3, 4), None),
        case("symmetric, one scale", (5,), None, affine=False),
        case("a scale for each row, as many rows as columns", (3, 3), 0),
        case("a scale for each column", (2, 4), 1),
        case("three axes, channels in the middle", (2, 3, 2), 1),
    ]


def linear_cases(rng: torch.Generator) -> Cases:
    def case(
        kind: str, leading: tuple[int, ...], sizes: tuple[int, int], bias: bool = True, mean: float = 0.0
    ) -> tuple[str, dict]:
        features, outputs = sizes
        weight = whole(rng, outputs, features)
        if mean:
            weight = weight.abs().clamp(min=64)
        inputs = {
            "x": drawn(lambda: normal(rng, *leading, features, mean=mean), "symmetric"),
            "weight": weight,
            "scale": 0.002 + 0.02 * uniform(rng, outputs),
            "bias": normal(rng, outputs) if bias else None,
        }
        return kind, inputs

    return [
        case("a batch, with a bias", (3,), (5, 4)),
        case("two leading axes, no bias", (2, 2), (4, 3), bias=False),
        case("a single vector", (), (6, 2)),
        case("as many inputs as outputs", (4,), (4, 4)),
        case("sums beyond 16 bits", (2,), (30, 2), mean=3.0),
        ("an input of zeros", {**case("", (2,), (3, 2))[1], "x": torch.zeros(2, 3)}),
    ]


def model_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, sizes: tuple[int, int, int], tied: bool, keep: list[str]) -> tuple[str, dict]:
        vocab, width, layers = sizes
        shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (vocab, width)}
        for i in range(layers):
            shapes[f"layers.{i}.inner.0.weight"] = (2 * width, width)
            shapes[f"layers.{i}.output.weight"], shapes[f"layers.{i}.output.bias"] = (width, 2 * width), (width,)
            shapes[f"layers.{i}.norm.weight"], shapes[f"layers.{i}.norm.bias"] = (width,), (width,)
        if not tied:
            shapes |= {"output.weight": (vocab, width), "output.bias": (vocab,)}
        weights = {
            name: drawn(lambda shape=shape: normal(rng, *shape), "symmetric", 0)
            if len(shape) == 2
            else normal(rng, *shape)
            for name, shape in shapes.items()
        }
        return kind, {"sizes": list(sizes), "tied": tied, "keep": keep, "weights": weights}

    return [
        case("everything that can be", (5, 3, 1), False, []),
        case("an output tied to the embedding", (5, 3, 1), True, []),
        case("the model's output kept, not that of its layer", (5, 3, 1), False, ["output"]),
        case("two layers kept within", (4, 2, 2), True, ["layers.0.output", "layers.1.inner.0"]),
    ]


# -------------------------------------------------------------------------------------------------- distillation


def distillation_cases(rng: torch.Generator) -> Cases:
    def case(
        kind: str, batch: int, classes: int, temperature: float, alpha: float, scale: float = 1.5
    ) -> tuple[str, dict]:
        inputs = {
            "student": normal(rng, batch, classes, scale=scale),
            "teacher": normal(rng, batch, classes, scale=scale),
            "targets": integers(rng, classes, batch),
            "temperature": temperature,
            "alpha": alpha,
            "upstream": normal(rng, 1, mean=2.0, scale=0.3)[0],
        }
        return kind, inputs

    far = case("a teacher that is certain", 2, 3, 2.0, 0.6)[1]
    far["teacher"] = torch.tensor([[400.0, 0.0, -100.0], [-30.0, 500.0, 20.0]]) + normal(rng, 2, 3)
    return [
        case("a temperature of 3", 3, 5, 3.0, 0.7),
        case("a temperature below 1", 4, 3, 0.5, 0.4),
        case("the soft part alone", 3, 4, 2.0, 1.0),
        case("the hard part alone", 3, 4, 4.0, 0.0),
        case("one example, a temperature of 1", 1, 6, 1.0, 0.3),
        ("a teacher that is certain", far),
    ]


def hidden_cases(rng: torch.Generator) -> Cases:
    def case(
        kind: str, layers: tuple[int, int], shape: tuple[int, int], widths: tuple[int, int], lengths: list[int]
    ) -> tuple[str, dict]:
        (mine, theirs), (B, T), (D, E) = layers, shape, widths
        inputs = {
            "student": [normal(rng, B, T, D) for _ in range(mine)],
            "teacher": [normal(rng, B, T, E) for _ in range(theirs)],
            "projections": [normal(rng, E, D, scale=0.7) for _ in range(mine)],
            "mask": torch.arange(T) < torch.tensor(lengths).unsqueeze(1),
            "upstream": normal(rng, 1, mean=2.0, scale=0.3)[0],
        }
        return kind, inputs

    return [
        case("two layers for four, padding", (2, 4), (2, 3), (2, 4), [3, 1]),
        case("two layers for six", (2, 6), (2, 2), (3, 4), [2, 1]),
        case("one layer for three, equal widths", (1, 3), (1, 3), (3, 3), [2]),
        case("as many layers, a sequence of padding only", (2, 2), (2, 2), (2, 3), [2, 0]),
    ]


# ------------------------------------------------------------------------------------------------------- pruning


def importance_cases(rng: torch.Generator) -> Cases:
    def case(
        kind: str, examples: int, layers: int, heads: int, width: int, silent: int | None = None
    ) -> tuple[str, dict]:
        outputs = normal(rng, examples, layers, heads, width)
        if silent is not None:
            outputs[:, silent] = 0
        inputs = {
            "heads": outputs,
            "targets": integers(rng, 4, examples).tolist(),
            "output": normal(rng, 4, width),
            "before": normal(rng, 4, width),
        }
        return kind, inputs

    return [
        case("several examples", 4, 2, 3, 3),
        case("one example", 1, 2, 4, 3),
        case("a layer whose heads say nothing", 3, 3, 2, 3, silent=1),
        case("one layer", 3, 1, 4, 2),
    ]


def prune_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, sizes: tuple[int, int, int], heads: list[int]) -> tuple[str, dict]:
        D, H, K = sizes
        weights = {}
        for name, (rows, columns) in {
            "q_proj": (H * K, D),
            "k_proj": (H * K, D),
            "v_proj": (H * K, D),
            "out_proj": (D, H * K),
        }.items():
            weights[f"{name}.weight"] = normal(rng, rows, columns, scale=1.2 * columns**-0.5)
            weights[f"{name}.bias"] = normal(rng, rows, scale=0.5)
        inputs = {
            "sizes": list(sizes),
            "weights": weights,
            "heads": heads,
            "x": normal(rng, 2, 3, D),
            "mask": torch.ones(3, 3, dtype=torch.bool).tril(),
        }
        return kind, inputs

    return [
        case("one head in the middle", (5, 4, 2), [1]),
        case("two heads, not in order, one named twice", (4, 4, 3), [2, 0, 2]),
        case("one head is left", (4, 2, 2), [0]),
        case("no head to take out", (2, 2, 1), []),
        case("all heads", (3, 2, 1), [1, 0]),
        case("a head that is not there", (2, 3, 1), [0, 3]),
        case("a number below zero", (2, 2, 1), [-1]),
    ]


def magnitude_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, shapes: list[tuple[int, ...]], sparsity: float, scales: list[float]) -> tuple[str, dict]:
        weights = []
        for name, shape, scale in zip("wzab", shapes, scales, strict=False):
            weights.append([name, normal(rng, *shape, scale=scale) + 0.0])
        return kind, {"weights": weights, "sparsity": sparsity}

    order = torch.randperm(6, generator=rng)
    ties = [
        ["v", torch.tensor([1.0, -1.0, 1.0, 3.0, -0.5, 2.0])[order]],
        ["a", torch.tensor([[-1.0, 1.0], [0.25, 1.0]])],
    ]
    return [
        case("two matrices of unlike size", [(3, 4), (2, 5)], 0.5, [1.0, 3.0]),
        case("a number that is not whole", [(2, 3), (4,)], 0.68, [1.0, 1.0]),
        case("a number just above a whole one", [(3, 3), (2,)], 0.3, [1.0, 0.5]),
        ("equal absolute values", {"weights": ties, "sparsity": 0.45}),
        case("nothing to prune", [(2, 2)], 0.0, [1.0]),
        case("everything", [(2, 2), (3,)], 1.0, [1.0, 1.0]),
        case("three tensors, most of it", [(2, 2, 2), (5,), (1, 3)], 0.8, [0.5, 1.0, 2.0]),
    ]


def front_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, points: Tensor) -> tuple[str, dict]:
        return kind, {"points": points[torch.randperm(len(points), generator=rng)].contiguous()}

    angle = torch.linspace(0.1, 1.4, 4)
    round_out = torch.stack([angle.cos(), angle.sin()], dim=1)  # on a circle about the origin: bent away from the hull
    twins = torch.tensor([[1.0, 4.0], [1.0, 4.0], [2.0, 2.0], [2.0, 2.0], [3.0, 3.0], [3.0, 3.0], [5.0, 1.0]])
    sides = torch.tensor([[1.0, 5.0], [1.0, 6.0], [2.0, 3.0], [4.0, 3.0], [6.0, 0.5], [6.0, 2.0]])
    return [
        case("random points", uniform(rng, 9, 2)),
        case("a front that is bent outwards", torch.cat([round_out, 1.1 + uniform(rng, 3, 2)])),
        case("equal points", twins),
        case("points that are equal in one figure", sides),
        case("three figures", uniform(rng, 8, 3)),
        case("one figure", torch.tensor([[2.0], [1.0], [3.0], [1.0]])),
        case("a single point", uniform(rng, 1, 2)),
    ]


# ------------------------------------------------------------------------------------------------------- further


def fake_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, shape: tuple[int, ...], edges: list[float], size: float) -> tuple[str, dict]:
        scale = 0.01 + 0.05 * uniform(rng, 1)[0]
        while True:
            steps = normal(rng, *shape, scale=size)
            steps.view(-1)[: len(edges)] = torch.tensor(edges)
            if clear(steps):
                break
        return kind, {"x": steps * scale, "scale": scale, "upstream": normal(rng, *shape)}

    return [
        case("values within the range", (3, 4), [], 30.0),
        case("values within and beyond it", (2, 5), [200.0, -300.0, 150.0], 90.0),
        case("values near its ends", (7,), [127.3, -127.3, 127.8, -127.8, 126.7], 60.0),
    ]


def cubic_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, begin: int, length: int, final: float, initial: float) -> tuple[str, dict]:
        end = begin + length
        steps = [0, begin, begin + 1, begin + length // 3, begin + length // 2, end - 1, end, end + 7, end + 5 * length]
        return kind, {"steps": steps, "begin": begin, "end": end, "final": final, "initial": initial}

    return [
        case("from nothing to 90 %", number(rng, 3, 9), number(rng, 20, 50), 0.9, 0.0),
        case("from 30 % to 80 %", number(rng, 10, 20), number(rng, 7, 19), 0.8, 0.3),
        case("from the first update on", 0, number(rng, 5, 9), 0.5, 0.1),
    ]


def step_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, shape: tuple[int, ...], momentum: float, zeroed: bool) -> tuple[str, dict]:
        mask = (torch.randperm(math.prod(shape), generator=rng) % 2 == 0).reshape(shape)
        weight, velocity = normal(rng, *shape), normal(rng, *shape)
        inputs = {
            "weight": weight * mask if zeroed else weight,
            "gradient": normal(rng, *shape),
            "velocity": velocity,
            "mask": mask,
            "lr": 0.1 + number(rng, 0, 5) / 10,
            "momentum": momentum,
        }
        return kind, inputs

    return [
        case("pruned just now", (3, 4), 0.9, False),
        case("pruned before, momentum left", (2, 5), 0.8, True),
        case("no momentum", (6,), 0.0, True),
    ]


# --------------------------------------------------------------------------------------------------- exercises

EXERCISES = [
    Exercise(
        "quantize",
        points=9,
        cases=quantize_cases,
        raises=["ValueError"],
        mistakes=[
            Mistake(
                "truncated",
                "Steps are cut off towards zero (as by a conversion to int8) instead of rounded to the nearest whole number.",
                "q = (x / scale.view(along)).round()",
                "q = (x / scale.view(along)).trunc()",
            ),
            Mistake(
                "floored",
                "Steps are rounded down (floor) instead of to the nearest whole number.",
                "q = (x / scale.view(along)).round()",
                "q = (x / scale.view(along)).floor()",
            ),
            Mistake(
                "half-up",
                "Of two equally near whole numbers the larger one is taken (floor of x + 0.5). It is the even one.",
                "q = (x / scale.view(along)).round()",
                "q = (x / scale.view(along) + 0.5).floor()",
            ),
            Mistake(
                "half-away-from-zero",
                "Of two equally near whole numbers the one further from zero is taken. It is the even one.",
                "q = (x / scale.view(along)).round()",
                "q = (x / scale.view(along)).sign() * ((x / scale.view(along)).abs() + 0.5).floor()",
            ),
            Mistake(
                "zero-point-before-rounding",
                "The zero point is added before rounding. First x / scale is rounded, then the zero point is added: between "
                "two steps an odd zero point turns even into odd.",
                "q = (x / scale.view(along)).round() + zero_point.view(along)",
                "q = (x / scale.view(along) + zero_point.view(along)).round()",
            ),
            Mistake(
                "zero-point-unsigned",
                "The zero point is -lo / scale, as for numbers from 0 to 255. For those from -128 to 127 it is 128 less.",
                "(-128 - lo / scale).round()",
                "(-lo / scale).round()",
            ),
            Mistake(
                "zero-point-one-off",
                "The zero point is one too large: it is -127 - lo / scale. The smallest value should become -128.",
                "(-128 - lo / scale).round()",
                "(-127 - lo / scale).round()",
            ),
            Mistake(
                "zero-point-sign",
                "The zero point has lo / scale with the wrong sign: it is -128 - lo / scale.",
                "(-128 - lo / scale).round()",
                "(-128 + lo / scale).round()",
            ),
            Mistake(
                "zero-point-truncated",
                "The zero point is cut off to a whole number instead of rounded.",
                "(-128 - lo / scale).round()",
                "(-128 - lo / scale).trunc()",
            ),
            Mistake(
                "zero-point-subtracted",
                "The zero point is subtracted from the steps. It is added here, and subtracted on the way back.",
                "+ zero_point.view(along)",
                "- zero_point.view(along)",
            ),
            Mistake(
                "zero-point-left-out",
                "The zero point is returned, but was not added to q.",
                " + zero_point.view(along)",
                "",
            ),
            Mistake(
                "zero-point-of-channels-shared",
                "All channels use the zero point of the first one. Each has its own.",
                "along = [",
                "zero_point = zero_point[:1].expand_as(scale)\n    along = [",
            ),
            Mistake(
                "clamped-late",
                "q is converted to int8 before it is kept within the range: 128 does not fit, and has become -128.",
                "q = q.clamp(",
                "q = q.to(torch.int32).to(torch.int8).clamp(",
            ),
            Mistake(
                "zero-left-out-of-the-range",
                "The range goes from the smallest to the largest value even if 0 is not in it, so that zero cannot be written "
                "exactly. lo is at most 0, and hi at least 0.",
                ".amin(dim=1).clamp(max=0)",
                ".amin(dim=1)",
                also=[(".amax(dim=1).clamp(min=0)", ".amax(dim=1)")],
            ),
            Mistake(
                "two-hundred-and-fifty-six-steps",
                "The affine range is divided by 256. From -128 to 127 there are 255 steps.",
                "(hi - lo) / 255",
                "(hi - lo) / 256",
            ),
            Mistake(
                "symmetric-by-128",
                "The symmetric scale is the largest absolute value by 128. It is by 127, and -128 is not used.",
                "torch.maximum(-lo, hi) / 127",
                "torch.maximum(-lo, hi) / 128",
                also=[("else -127, 127)", "else -128, 127)")],
            ),
            Mistake(
                "largest-value-not-absolute",
                "The symmetric scale is made of the largest value. Of negative values the absolute one counts.",
                "torch.maximum(-lo, hi) / 127",
                "channels.amax(dim=1).clamp(min=0) / 127",
            ),
            Mistake(
                "symmetric-range-of-both-ends",
                "The symmetric scale is (hi - lo) / 255. It is the largest absolute value by 127.",
                "torch.maximum(-lo, hi) / 127",
                "(hi - lo) / 255",
            ),
            Mistake(
                "one-scale-for-all-channels",
                "One scale is used for all channels: the smallest and largest value are those of the whole tensor, "
                "although an axis "
                "is given.",
                "channels.amin(dim=1).clamp(max=0), channels.amax(dim=1).clamp(min=0)",
                "channels.amin(dim=1).amin().clamp(max=0).expand(len(channels)), "
                "channels.amax(dim=1).amax().clamp(min=0).expand(len(channels))",
            ),
            Mistake(
                "the-other-axis",
                "The scales are found over `axis`, so that each index along the last axis has one. It should be found "
                "over all other "
                "axes, for each index along `axis`.",
                "x.movedim(axis, 0).reshape(x.size(axis), -1)",
                "x.movedim(-1, 0).reshape(x.size(-1), -1)",
                also=[("if i == axis else 1", "if i == (None if axis is None else x.ndim - 1) else 1")],
            ),
            Mistake(
                "scale-along-the-last-axis",
                "The scales are right, but they are laid along the last axis when x is divided. They belong along `axis`.",
                "if i == axis else 1",
                "if i == (None if axis is None else x.ndim - 1) else 1",
            ),
            Mistake(
                "scale-of-nothing",
                "Where all values are 0 the scale is 0, and x was divided by it. There the scale is 1.",
                "    scale = torch.where(scale == 0, 1.0, scale)\n",
                "",
            ),
            Mistake(
                "scale-of-nothing-tiny",
                "Where all values are 0 the scale is a tiny number. There it is 1.",
                "torch.where(scale == 0, 1.0, scale)",
                "scale.clamp(min=1e-8)",
            ),
            Mistake(
                "inverse-scale",
                "The scale that is returned is its inverse, steps for a unit. It is the width of a step.",
                "scale.reshape(shape)",
                "1 / scale.reshape(shape)",
            ),
            Mistake(
                "any-scheme",
                "Any other scheme is taken for symmetric. It should raise ValueError.",
                'if scheme not in ("affine", "symmetric"):',
                "if not scheme:",
            ),
            Mistake(
                "schemes-exchanged",
                "Symmetric and affine are exchanged.",
                'if scheme not in ("affine", "symmetric"):',
                'scheme = {"affine": "symmetric", "symmetric": "affine"}.get(scheme, scheme)\n'
                '    if scheme not in ("affine", "symmetric"):',
            ),
        ],
    ),
    Exercise(
        "dequantize",
        points=4,
        cases=dequantize_cases,
        mistakes=[
            Mistake(
                "difference-in-int8",
                "q - zero_point was computed in int8, which ends at 127 and goes on at -128. Widen q before the subtraction.",
                "(q.to(torch.int32) - zero_point)",
                "(q - zero_point.to(torch.int8))",
            ),
            Mistake(
                "difference-in-int8-with-one-scale",
                "With one scale, q - zero_point was computed in int8: a single int32 does not widen a tensor of int8. "
                "Widen q before.",
                "(q.to(torch.int32) - zero_point)",
                "(q - zero_point)",
            ),
            Mistake("no-zero-point", "The zero point is not subtracted.", "(q.to(torch.int32) - zero_point)", "q"),
            Mistake(
                "zero-point-added",
                "The zero point is added. It is subtracted on the way back.",
                "- zero_point)",
                "+ zero_point)",
            ),
            Mistake(
                "scale-first",
                "q is multiplied by the scale before the zero point is subtracted: s q - z. It is s (q - z).",
                "scale * (q.to(torch.int32) - zero_point)",
                "scale * q - zero_point",
            ),
            Mistake(
                "divided",
                "q - zero_point is divided by the scale. It is multiplied: the scale is the width of a step.",
                "return scale * (q.to(torch.int32) - zero_point)",
                "return (q.to(torch.int32) - zero_point) / scale",
            ),
            Mistake(
                "last-axis",
                "Scales and zero points are laid along the last axis. They belong along `axis`.",
                "if i == axis else 1",
                "if i == q.ndim - 1 else 1",
            ),
            Mistake(
                "zero-point-along-the-last-axis",
                "The scales lie along `axis`, but the zero points along the last axis.",
                "scale.reshape(shape), zero_point.reshape(shape)",
                "scale.reshape(shape), zero_point",
            ),
            Mistake(
                "first-channel-for-all",
                "All channels use the scale of the first one. Each has its own.",
                "scale.reshape(shape), zero",
                "scale[0], zero",
            ),
        ],
    ),
    Exercise(
        "int8_linear",
        points=8,
        cases=linear_cases,
        uses=["quantize"],
        mistakes=[
            Mistake(
                "sums-in-int8",
                "Products are summed in int8, which overflows: sums wrap round at 127. Convert both operands to int32 "
                "before the "
                "product.",
                "q.to(torch.int32) @ weight.to(torch.int32).T",
                "(q.to(torch.int32) @ weight.to(torch.int32).T).to(torch.int8)",
            ),
            Mistake(
                "sums-in-int16",
                "Products are summed in int16, which overflows after two or three large products. The sums are int32.",
                "q.to(torch.int32) @ weight.to(torch.int32).T",
                "(q.to(torch.int32) @ weight.to(torch.int32).T).to(torch.int16)",
            ),
            Mistake(
                "weight-scale-twice",
                "The scale of the weights is applied twice: to the weights, and to the sums again.",
                "(x_scale * scale)",
                "(x_scale * scale * scale)",
            ),
            Mistake(
                "input-scale-twice",
                "The scale of the input is applied twice.",
                "(x_scale * scale)",
                "(x_scale * x_scale * scale)",
            ),
            Mistake(
                "no-input-scale",
                "The scale of the input is left out: the sums are only multiplied by that of the weights.",
                "(x_scale * scale)",
                "scale",
            ),
            Mistake(
                "no-weight-scale",
                "The scale of the weights is left out: the sums are only multiplied by that of the input.",
                "(x_scale * scale)",
                "x_scale",
            ),
            Mistake(
                "scale-of-one-output",
                "All outputs use the scale of the first one. Each output has its own.",
                "(x_scale * scale)",
                "(x_scale * scale[0])",
            ),
            Mistake(
                "scales-of-inputs",
                "The scales of the weights are laid along the inputs. They belong to the outputs, one for each row of "
                "the weight.",
                "weight.to(torch.int32).T  # (..., out)\n    y = sums * (x_scale * scale)",
                "weight.to(torch.int32).T\n    y = (q.to(x.dtype) * scale) @ weight.to(x.dtype).T * x_scale",
            ),
            Mistake(
                "weight-not-transposed",
                "The weight is not transposed. It is (out, in).",
                "weight.to(torch.int32).T",
                "weight.to(torch.int32)",
            ),
            Mistake(
                "float-input",
                "The input stays float: only the weights are whole numbers. It should be quantized as well, with a "
                "scale of its own.",
                "y = sums * (x_scale * scale)",
                "y = x @ weight.to(x.dtype).T * scale",
            ),
            Mistake(
                "affine-input",
                "The input is quantized in the affine way, and its zero point is forgotten. It should be symmetric.",
                'quantize(x, "symmetric")',
                'quantize(x, "affine")',
            ),
            Mistake(
                "input-scale-for-each-feature",
                "The input has a scale for each feature, and the sums one of them all. There is one scale for all of "
                "the input.",
                'quantize(x, "symmetric")',
                'quantize(x, "symmetric", x.ndim - 1)',
                also=[("(x_scale * scale)", "(x_scale.max() * scale)")],
            ),
            Mistake(
                "input-scale-for-each-row",
                "Each row of the input has a scale of its own. There is one for all of it.",
                'q, x_scale, _ = quantize(x, "symmetric")',
                "x_scale = x.abs().amax(dim=-1, keepdim=True) / 127\n"
                "    x_scale = torch.where(x_scale == 0, 1.0, x_scale)\n"
                "    q = (x / x_scale).round()",
            ),
            Mistake(
                "bias-scaled",
                "The bias is added before the scales are applied. It is in the units of the output already.",
                "return y if bias is None else y + bias",
                "return y if bias is None else (sums + bias) * (x_scale * scale)",
            ),
            Mistake(
                "no-bias",
                "The bias is left out.",
                "return y if bias is None else y + bias",
                "return y",
            ),
        ],
    ),
    Exercise(
        "quantize_model",
        points=9,
        cases=model_cases,
        uses=["quantize"],
        mistakes=[
            Mistake(
                "top-level-only",
                "Only linear layers that are direct parts of the model are replaced. Those within other parts are to "
                "be replaced too.",
                "list(model.named_modules())",
                "list(model.named_children())",
            ),
            Mistake(
                "keep-ignored",
                "Layers that are in `keep` are replaced all the same.",
                "name not in keep and ",
                "",
            ),
            Mistake(
                "keep-by-last-name",
                "Names in `keep` are compared with the last part of a layer's name. They are full names: keeping "
                "`output` does not "
                "keep `layers.0.output`.",
                "name not in keep",
                'name.split(".")[-1] not in [one.split(".")[-1] for one in keep]',
            ),
            Mistake(
                "keep-by-first-letters",
                "A layer is kept if its name only contains a name in `keep`. It is kept if it is one of them.",
                "name not in keep",
                "not any(one in name for one in keep)",
            ),
            Mistake(
                "tied-output-replaced",
                "A layer that shares its weight with the embedding is replaced. The embedding still needs the floats, "
                "so that the "
                "matrix is stored twice.",
                " and users[id(module.weight)] == 1",
                "",
            ),
            Mistake(
                "first-layer-only",
                "The first linear layer is replaced and no other.",
                "child, QuantizedLinear(module))",
                "child, QuantizedLinear(module))\n            break",
            ),
            Mistake(
                "a-copy-changed",
                "A copy of the model is changed. The model that was given should be, in place.",
                "    before = size()\n",
                "    from copy import deepcopy\n\n    before = size()\n    model = deepcopy(model)\n",
            ),
            Mistake(
                "another-name",
                "The new layers are put in under another name, and the old ones are still there.",
                "setattr(model.get_submodule(parent), child, QuantizedLinear(module))",
                'setattr(model.get_submodule(parent), child + "_int8", QuantizedLinear(module))',
            ),
            Mistake(
                "not-swapped",
                "Nothing is replaced: the weights of the layers were rounded, but they are floats still.",
                "setattr(model.get_submodule(parent), child, QuantizedLinear(module))",
                "found = QuantizedLinear(module)\n"
                "            module.weight.data = found.weight * found.scale.unsqueeze(1)",
            ),
            Mistake(
                "bias-lost",
                "The biases of the layers are lost.",
                "QuantizedLinear(module))",
                "QuantizedLinear(module))\n"
                '            setattr(getattr(model.get_submodule(parent), child), "bias", None)',
            ),
            Mistake(
                "buffers-not-counted",
                "Buffers are not counted. The int8 weights are buffers, and so are their scales.",
                "[*model.parameters(), *model.buffers()]",
                "model.parameters()",
            ),
            Mistake(
                "parameters-not-counted",
                "Only buffers are counted. What stays float is among the parameters.",
                "[*model.parameters(), *model.buffers()]",
                "model.buffers()",
            ),
            Mistake(
                "four-bytes-for-all",
                "Four bytes are counted for every number. An int8 takes one: ask each tensor for its `element_size()`.",
                "one.element_size()",
                "4",
            ),
            Mistake(
                "numbers-counted",
                "Numbers are counted instead of bytes.",
                "one.numel() * one.element_size()",
                "one.numel()",
            ),
            Mistake(
                "bits-counted",
                "Bits are counted instead of bytes.",
                "one.numel() * one.element_size()",
                "8 * one.numel() * one.element_size()",
            ),
            Mistake(
                "shared-tensors-counted-twice",
                "A tensor that two modules share is counted twice, as in `state_dict()`.",
                "[*model.parameters(), *model.buffers()]",
                "model.state_dict().values()",
            ),
            Mistake(
                "only-layers-counted",
                "The bytes after are those of the new layers alone. What stays as it was counts too.",
                '"after": size()}',
                '"after": sum(b.numel() * b.element_size() for m in model.modules() '
                "if isinstance(m, QuantizedLinear) for b in m.buffers())}",
            ),
            Mistake(
                "measured-after-both-times",
                "The bytes before were measured when the layers were replaced already.",
                'return {"before": before',
                'return {"before": size()',
            ),
        ],
    ),
    Exercise(
        "distillation_loss",
        points=9,
        cases=distillation_cases,
        mistakes=[
            Mistake(
                "teacher-not-detached",
                "A gradient flows to the teacher. Its logits are to be detached.",
                "teacher_logits.detach()",
                "teacher_logits",
            ),
            Mistake(
                "student-detached",
                "The student's logits are detached in the soft part, so that nothing is learned from the teacher.",
                "F.log_softmax(student_logits / temperature",
                "F.log_softmax(student_logits.detach() / temperature",
            ),
            Mistake(
                "temperature-not-squared",
                "The soft part is multiplied by the temperature. It is by its square.",
                "temperature**2 * divergence",
                "temperature * divergence",
            ),
            Mistake(
                "no-temperature-factor",
                "The soft part is not multiplied by the square of the temperature.",
                "temperature**2 * divergence",
                "divergence",
            ),
            Mistake(
                "divided-by-temperature-squared",
                "The soft part is divided by the square of the temperature. It is multiplied by it.",
                "temperature**2 * divergence",
                "divergence / temperature**2",
            ),
            Mistake(
                "all-times-temperature-squared",
                "The hard part is multiplied by the square of the temperature as well. Only the soft part is.",
                "hard = F",
                "hard = temperature**2 * F",
            ),
            Mistake(
                "divergence-the-other-way-round",
                "The divergence is taken the other way round: KL(student || teacher). It is KL(teacher || student), "
                "in which the "
                "teacher's probabilities weigh.",
                "teacher.exp() * (teacher - student)",
                "student.exp() * (student - teacher)",
            ),
            Mistake(
                "divergence-negative",
                "The divergence has the wrong sign: it rewards being unlike the teacher.",
                "(teacher - student)",
                "(student - teacher)",
            ),
            Mistake(
                "cross-entropy-for-divergence",
                "The soft part is the cross-entropy with the teacher. The divergence is less, by the teacher's own entropy.",
                "(teacher - student)",
                "(-student)",
            ),
            Mistake(
                "log-taken-twice",
                "The log is taken twice: of a log_softmax again. Logs of probabilities are negative, and have no log.",
                "student = F.log_softmax(student_logits / temperature, dim=-1)",
                "student = F.log_softmax(student_logits / temperature, dim=-1).log()",
            ),
            Mistake(
                "softmax-taken-twice",
                "The softmax is taken twice: the log_softmax of the soft part was given probabilities instead of logits.",
                "student_logits / temperature, dim=-1",
                "(student_logits / temperature).softmax(dim=-1), dim=-1",
            ),
            Mistake(
                "cross-entropy-of-probabilities",
                "The cross-entropy was given the student's probabilities. It takes the softmax itself, and wants logits.",
                "F.cross_entropy(student_logits,",
                "F.cross_entropy(student_logits.softmax(dim=-1),",
            ),
            Mistake(
                "probabilities-for-logs",
                "The divergence was given the student's probabilities where it needs their logs (the first argument "
                "of F.kl_div).",
                "(teacher - student)",
                "(teacher - student.exp())",
            ),
            Mistake(
                "log-of-a-softmax",
                "The log is taken of a softmax that was rounded to 0: infinite, or not a number. `log_softmax` does "
                "both in one.",
                "teacher = F.log_softmax(teacher_logits.detach() / temperature, dim=-1)",
                "teacher = F.softmax(teacher_logits.detach() / temperature, dim=-1).log()",
            ),
            Mistake(
                "mean-over-classes",
                "The divergence is a mean over classes too (reduction='mean'). It is summed over classes, and a mean "
                "over examples.",
                ".sum(dim=-1).mean()",
                ".mean()",
            ),
            Mistake(
                "sum-over-examples",
                "The divergence is summed over examples. It is a mean over them.",
                ".sum(dim=-1).mean()",
                ".sum()",
            ),
            Mistake(
                "temperature-on-the-teacher-only",
                "Only the teacher's logits are divided by the temperature. The student's are too, in the soft part.",
                "student_logits / temperature",
                "student_logits",
            ),
            Mistake(
                "temperature-on-the-student-only",
                "Only the student's logits are divided by the temperature. The teacher's are too.",
                "teacher_logits.detach() / temperature",
                "teacher_logits.detach()",
            ),
            Mistake(
                "temperature-multiplied",
                "Logits are multiplied by the temperature. They are divided by it: a high one makes answers softer.",
                "student_logits / temperature",
                "student_logits * temperature",
                also=[("teacher_logits.detach() / temperature", "teacher_logits.detach() * temperature")],
            ),
            Mistake(
                "hard-at-temperature",
                "The cross-entropy is taken at the temperature. The hard part has none.",
                "F.cross_entropy(student_logits, targets)",
                "F.cross_entropy(student_logits / temperature, targets)",
            ),
            Mistake(
                "alpha-exchanged",
                "alpha weighs the hard part. It is the weight of the soft one.",
                "alpha * soft + (1 - alpha) * hard",
                "(1 - alpha) * soft + alpha * hard",
            ),
            Mistake(
                "hard-not-weighed",
                "The hard part is added in full. Its weight is 1 - alpha.",
                "(1 - alpha) * hard",
                "hard",
            ),
            Mistake(
                "classes-on-the-wrong-axis",
                "The softmax is taken over the examples (dim 0). It is taken over the classes, the last axis.",
                "student_logits / temperature, dim=-1",
                "student_logits / temperature, dim=0",
                also=[
                    ("teacher_logits.detach() / temperature, dim=-1", "teacher_logits.detach() / temperature, dim=0")
                ],
            ),
        ],
    ),
    Exercise(
        "match_hidden",
        points=6,
        cases=hidden_cases,
        mistakes=[
            Mistake(
                "teacher-not-detached",
                "A gradient flows to the teacher's layers. They are to be detached.",
                "theirs.detach()",
                "theirs",
            ),
            Mistake(
                "first-layers",
                "The student's layers are compared with the first ones of the teacher. They are spread over all of "
                "them: layer i "
                "goes with layer i M / L.",
                "teacher[every - 1 :: every]",
                "teacher[: len(student)]",
            ),
            Mistake(
                "last-layers",
                "The student's layers are compared with the last ones of the teacher. They are spread over all of them.",
                "teacher[every - 1 :: every]",
                "teacher[len(teacher) - len(student) :]",
            ),
            Mistake(
                "one-layer-too-early",
                "Layers are counted from 0: of four, the first and the third are taken. Counted from 1 it is the "
                "second and the fourth, "
                "and the last goes with the last.",
                "teacher[every - 1 :: every]",
                "teacher[::every]",
            ),
            Mistake(
                "backwards",
                "The layers are compared in reverse order: the student's first with the teacher's last.",
                "teacher[every - 1 :: every]",
                "teacher[every - 1 :: every][::-1]",
            ),
            Mistake(
                "padding-counted",
                "Padding counts like real tokens: the mask is not used.",
                "difference[mask].square().mean()",
                "difference.square().mean()",
            ),
            Mistake(
                "mean-over-padding",
                "Differences at the padding are set to zero, but the mean is over all positions. It is over the real "
                "ones only.",
                "difference[mask].square().mean()",
                "(difference * mask.unsqueeze(-1)).square().mean()",
            ),
            Mistake(
                "mask-reversed",
                "The padding is compared instead of the real tokens: the mask is True where a token is real.",
                "difference[mask]",
                "difference[~mask]",
            ),
            Mistake(
                "summed-over-features",
                "Squares are summed over the features. It is a mean over tokens and features.",
                "square().mean()",
                "square().sum(dim=-1).mean()",
            ),
            Mistake(
                "mean-of-each-sequence",
                "The mean is taken within each sequence first, so that short ones weigh more. It is one mean over all "
                "real tokens.",
                "difference[mask].square().mean()",
                "torch.stack([d[m].square().mean() for d, m in zip(difference, mask) if m.any()]).mean()",
            ),
            Mistake(
                "summed-over-layers",
                "The layers' losses are summed. The loss is their mean.",
                "torch.stack(losses).mean()",
                "torch.stack(losses).sum()",
            ),
            Mistake(
                "last-layer-only",
                "Only the last layers are compared.",
                "torch.stack(losses).mean()",
                "losses[-1]",
            ),
            Mistake(
                "absolute-differences",
                "Differences are taken absolute. They are squared.",
                "difference[mask].square()",
                "difference[mask].abs()",
            ),
            Mistake(
                "root-of-the-mean",
                "The root of the mean square is taken. It is the mean square itself.",
                "difference[mask].square().mean()",
                "difference[mask].square().mean().sqrt()",
            ),
            Mistake(
                "teacher-projected",
                "The teacher's vectors are projected to the student's width. It is the student's that are projected, "
                "to the teacher's.",
                "mine @ projection.T - theirs.detach()",
                "mine - theirs.detach() @ projection",
            ),
            Mistake(
                "projection-not-transposed",
                "The projection is not transposed. It is (E, D), and vectors are rows.",
                "mine @ projection.T",
                "mine @ projection",
            ),
            Mistake(
                "one-projection",
                "The projection of the first layer is used for all layers. Each has its own.",
                "mine @ projection.T",
                "mine @ projections[0].T",
            ),
            Mistake(
                "projection-detached",
                "The projection gets no gradient. It is trained along.",
                "mine @ projection.T",
                "mine @ projection.detach().T",
            ),
        ],
    ),
    Exercise(
        "head_importance",
        points=7,
        cases=importance_cases,
        mistakes=[
            Mistake(
                "no-absolute-value",
                "The gradients are averaged with their signs: no absolute value is taken, so that help and harm cancel out.",
                "gradient.abs()",
                "gradient",
            ),
            Mistake(
                "absolute-value-of-the-mean",
                "The absolute value is taken of the mean over examples. It is taken of each example's gradient, "
                "before the mean.",
                "gradient.abs()",
                "gradient",
                also=[("importance = total / len(examples)", "importance = total.abs() / len(examples)")],
            ),
            Mistake(
                "squared",
                "Gradients are squared instead of taken absolute.",
                "gradient.abs()",
                "gradient.square()",
            ),
            Mistake(
                "positive-part",
                "Negative gradients are dropped. Their absolute value counts: a head that hurts here is at work as well.",
                "gradient.abs()",
                "gradient.clamp(min=0)",
            ),
            Mistake(
                "last-example-only",
                "Only the last example counts. It is the mean over all.",
                "total += gradient.abs()",
                "total = len(examples) * gradient.abs()",
            ),
            Mistake(
                "largest-example",
                "The largest of the examples counts. It is their mean.",
                "total += gradient.abs()",
                "total = torch.maximum(total, len(examples) * gradient.abs())",
            ),
            Mistake(
                "gates-at-zero",
                "The gates are 0: the gradient is taken at a model whose heads are all silent. They are 1.",
                "torch.ones(num_layers",
                "torch.zeros(num_layers",
            ),
            Mistake(
                "gradients-accumulated",
                "The gates are made once, and their .grad is not cleared: each example's gradient has those before it in it.",
                "gates = torch.ones(num_layers, num_heads, requires_grad=True)\n"
                "        (gradient,) = torch.autograd.grad(loss_of(example, gates), gates)",
                'gates = locals().get("gates", torch.ones(num_layers, num_heads, requires_grad=True))\n'
                "        loss_of(example, gates).backward(inputs=[gates])\n"
                "        gradient = gates.grad",
            ),
            Mistake(
                "gradients-of-the-model-changed",
                "`backward()` has added to the gradients of the model's parameters. Ask `torch.autograd.grad` for "
                "that of the gates alone.",
                "(gradient,) = torch.autograd.grad(loss_of(example, gates), gates)",
                "loss_of(example, gates).backward()\n        gradient = gates.grad",
            ),
            Mistake(
                "not-normalised",
                "The layers' rows are not divided by their lengths.",
                "importance / torch.where(length == 0, 1.0, length)",
                "importance",
            ),
            Mistake(
                "normalised-over-all",
                "All layers are divided by one length. Each layer's row is divided by its own.",
                "importance.norm(dim=1, keepdim=True)",
                "importance.norm()",
            ),
            Mistake(
                "normalised-over-layers",
                "Columns are divided by their lengths, over the layers. It is each layer's row.",
                "importance.norm(dim=1, keepdim=True)",
                "importance.norm(dim=0, keepdim=True)",
            ),
            Mistake(
                "divided-by-the-sum",
                "Each row is divided by its sum. It is divided by its length, the root of the sum of squares.",
                "importance.norm(dim=1, keepdim=True)",
                "importance.sum(dim=1, keepdim=True)",
            ),
            Mistake(
                "divided-by-the-largest",
                "Each row is divided by its largest number. It is divided by its length, the root of the sum of squares.",
                "importance.norm(dim=1, keepdim=True)",
                "importance.amax(dim=1, keepdim=True)",
            ),
            Mistake(
                "normalised-too-early",
                "Each example's gradient is divided by its length before the mean. It is done once, with the mean.",
                "total += gradient.abs()",
                "total += F.normalize(gradient.abs(), dim=1)",
            ),
            Mistake(
                "zero-by-zero",
                "A row of zeros is divided by its length, 0. It stays as it is.",
                "torch.where(length == 0, 1.0, length)",
                "length",
            ),
        ],
    ),
    Exercise(
        "prune_heads",
        points=9,
        cases=prune_cases,
        mistakes=[
            Mistake(
                "masked-but-kept",
                "The heads are set to zero, but they are still there: no matrix has become smaller.",
                "    kept = [",
                "    out = attention.out_proj\n"
                "    with torch.no_grad():\n"
                "        for h in gone:\n"
                "            out.weight[:, h * K : h * K + K] = 0\n"
                "    return\n"
                "    kept = [",
            ),
            Mistake(
                "rows-of-the-output",
                "Rows of the output projection are taken out. It reads the heads: its columns are theirs.",
                "out.weight.detach()[:, rows]",
                "out.weight.detach()[rows]",
            ),
            Mistake(
                "output-not-cut",
                "The output projection still has the columns of the heads that are gone.",
                "    out.weight = nn.Parameter(out.weight.detach()[:, rows])\n    out.in_features = len(rows)\n",
                "",
                also=[("    out = attention.out_proj\n", "")],
            ),
            Mistake(
                "first-columns-of-the-output",
                "The output projection keeps its first columns. It should keep those of the heads that stay.",
                "out.weight.detach()[:, rows]",
                "out.weight.detach()[:, : len(rows)]",
            ),
            Mistake(
                "biases-not-cut",
                "The biases of the query, key and value projections are as long as before. They lose the same rows.",
                "        layer.bias = nn.Parameter(layer.bias.detach()[rows])\n",
                "",
            ),
            Mistake(
                "first-biases",
                "The biases keep their first numbers. They should keep those of the heads that stay, as the weights do.",
                "layer.bias.detach()[rows]",
                "layer.bias.detach()[: len(rows)]",
            ),
            Mistake(
                "values-not-cut",
                "The value projection is as large as before. It loses the same rows as queries and keys.",
                "(attention.q_proj, attention.k_proj, attention.v_proj)",
                "(attention.q_proj, attention.k_proj)",
            ),
            Mistake(
                "the-others-taken-out",
                "The heads that were named are kept, and the others are gone.",
                "if h not in gone]",
                "if h in gone]",
            ),
            Mistake(
                "single-features",
                "Single features were taken out: row h for head h. Head h has K of them, from h K on.",
                "[h * K + i for h in kept for i in range(K)]",
                "[i for i in range(H * K) if i not in gone]",
            ),
            Mistake(
                "features-interleaved",
                "Head h is taken to own every H-th feature, from h on. Its features lie together: h K to h K + K - 1.",
                "[h * K + i for h in kept for i in range(K)]",
                "[i * H + h for h in kept for i in range(K)]",
            ),
            Mistake(
                "one-after-the-other",
                "Heads were taken out one after the other by their old numbers: after the first one the numbers had shifted.",
                "    kept = [",
                "    left = list(range(H))\n"
                "    for h in sorted(gone):\n"
                "        del left[min(h, len(left) - 1)]\n"
                "    gone = set(range(H)) - set(left)\n"
                "    kept = [",
            ),
            Mistake(
                "number-of-heads-kept",
                "`num_heads` is as before: the features that are left are split among too many heads.",
                "    attention.num_heads = len(kept)\n",
                "",
            ),
            Mistake(
                "twice-counted",
                "A head that is named twice counts as two in `num_heads`.",
                "attention.num_heads = len(kept)",
                "attention.num_heads = H - len(list(heads))",
            ),
            Mistake(
                "head-width-changed",
                "`head_width` was changed to spread the old width over the heads that stay. Each is as wide as before.",
                "attention.num_heads = len(kept)",
                "attention.num_heads = len(kept)\n    attention.head_width = H * K // len(kept)",
            ),
            Mistake(
                "features-not-told",
                "The weights are smaller, but `out_features` and `in_features` are those from before.",
                "        layer.out_features = len(rows)\n",
                "",
                also=[("    out.in_features = len(rows)\n", "")],
            ),
            Mistake(
                "output-rescaled",
                "The output projection was scaled up to make up for the heads that are gone. The values stay as they are.",
                "out.weight.detach()[:, rows]",
                "out.weight.detach()[:, rows] * H / len(kept)",
            ),
            Mistake(
                "output-bias-scaled",
                "The bias of the output projection was changed. It does not belong to any head.",
                "    out.in_features = len(rows)\n",
                "    out.in_features = len(rows)\n    out.bias = nn.Parameter(out.bias.detach() * len(kept) / H)\n",
            ),
            Mistake(
                "all-heads-allowed",
                "All heads can be taken out. At least one has to stay: ValueError.",
                " or len(gone) == H",
                "",
            ),
            Mistake(
                "unknown-heads-allowed",
                "A number that is not that of a head is passed over. It should raise ValueError.",
                "not gone <= set(range(H)) or len(gone) == H",
                "len(gone) == H",
            ),
            Mistake(
                "counted-from-the-end",
                "A number below zero is taken to count from the end. It should raise ValueError.",
                "gone = set(heads)",
                "gone = {h + H if -H <= h < 0 else h for h in heads}",
            ),
        ],
    ),
    Exercise(
        "magnitude_prune",
        points=6,
        cases=magnitude_cases,
        mistakes=[
            Mistake(
                "each-by-itself",
                "Each tensor is pruned by itself, to the same sparsity. The smallest numbers of all tensors together go.",
                source="""
def magnitude_prune(weights: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    masks = {}
    for name, weight in weights.items():
        stays = torch.ones(weight.numel(), dtype=torch.bool)
        order = weight.detach().abs().flatten().argsort(stable=True)
        stays[order[: math.floor(sparsity * weight.numel())]] = False
        masks[name] = stays.reshape(weight.shape)
    return masks
""",
            ),
            Mistake(
                "no-absolute-value",
                "The smallest numbers are pruned, so the most negative ones. It is those with the smallest absolute values.",
                "weight.detach().abs().flatten()",
                "weight.detach().flatten()",
            ),
            Mistake(
                "largest-pruned",
                "The largest numbers are pruned. It is the smallest.",
                "sizes.argsort(stable=True)[:number]",
                "sizes.argsort(stable=True, descending=True)[:number]",
            ),
            Mistake(
                "mask-reversed",
                "The masks are True for what is pruned. They are True for what stays.",
                "parts = stays.split",
                "parts = (~stays).split",
            ),
            Mistake(
                "sparsity-for-density",
                "The sparsity is taken for the share that stays. It is the share that is pruned.",
                "math.floor(sparsity * len(sizes))",
                "math.floor((1 - sparsity) * len(sizes))",
            ),
            Mistake(
                "rounded",
                "The number of pruned weights is rounded to the nearest. It is rounded down.",
                "math.floor(sparsity * len(sizes))",
                "round(sparsity * len(sizes))",
            ),
            Mistake(
                "rounded-up",
                "The number of pruned weights is rounded up. It is rounded down.",
                "math.floor(sparsity * len(sizes))",
                "math.ceil(sparsity * len(sizes))",
            ),
            Mistake(
                "all-equal-ones-pruned",
                "Everything up to a threshold is pruned, so that of equal numbers all go, more than floor(s n).",
                "stays[sizes.argsort(stable=True)[:number]] = False",
                "stays[sizes <= sizes.sort().values[number - 1]] = not number",
            ),
            Mistake(
                "all-equal-ones-kept",
                "Only what is below a threshold is pruned, so that of equal numbers all stay, and fewer than floor(s "
                "n) are pruned.",
                "stays[sizes.argsort(stable=True)[:number]] = False",
                "stays[sizes < sizes.sort().values[max(number - 1, 0)]] = False",
            ),
            Mistake(
                "last-ones-first",
                "Of equal numbers the last ones are pruned. The first ones go first.",
                "stays[sizes.argsort(stable=True)[:number]] = False",
                "stays[len(sizes) - 1 - sizes.flip(0).argsort(stable=True)[:number]] = False",
            ),
            Mistake(
                "names-sorted",
                "The tensors were put in alphabetical order. They stay in the order of the dict.",
                "sizes = torch.cat(",
                "weights = dict(sorted(weights.items()))\n    sizes = torch.cat(",
            ),
            Mistake(
                "weights-changed",
                "The weights themselves were set to zero. They stay as they are; only masks come back.",
                "return {name: part",
                "for weight, part in zip(weights.values(), parts):\n"
                "        weight.data *= part.reshape(weight.shape)\n"
                "    return {name: part",
            ),
            Mistake(
                "floats-for-bools",
                "The masks are floats. They are bool, True for what stays.",
                "part.reshape(weight.shape) for (name",
                "part.reshape(weight.shape).to(weight.dtype) for (name",
            ),
            Mistake(
                "left-flat",
                "The masks are vectors. They have the shapes of the weights.",
                "part.reshape(weight.shape) for (name",
                "part for (name",
            ),
        ],
    ),
    Exercise(
        "pareto_front",
        points=3,
        cases=front_cases,
        mistakes=[
            Mistake(
                "dominated-kept",
                "A point stays although another one is better in one figure and equal in another: only those that are "
                "worse in **every** "
                "figure were struck out.",
                "(others <= own).all(dim=-1) & (others < own).any(dim=-1)",
                "(others < own).all(dim=-1)",
            ),
            Mistake(
                "equal-points-dropped",
                "Equal points strike each other out. They are not smaller anywhere, so both stay.",
                "(others <= own).all(dim=-1) & (others < own).any(dim=-1)",
                "(others <= own).all(dim=-1) & ~torch.eye(len(points), dtype=torch.bool)",
            ),
            Mistake(
                "twins-once",
                "Of equal points only the first is kept. They stay together.",
                "return (~dominated.any(dim=1))",
                "same = (others == own).all(dim=-1).tril(-1).any(dim=1)\n    return (~dominated.any(dim=1) & ~same)",
            ),
            Mistake(
                "itself-included",
                "A point is struck out by itself: it is at most as large as itself everywhere. It must be smaller somewhere.",
                " & (others < own).any(dim=-1)",
                "",
            ),
            Mistake(
                "smaller-somewhere",
                "A point is struck out if another one is smaller in any figure. That one must also be at most as "
                "large in all others.",
                "(others <= own).all(dim=-1) & ",
                "",
            ),
            Mistake(
                "more-is-better",
                "The points are returned that dominate no other one: the front of the largest figures. Less is better.",
                "points.unsqueeze(0), points.unsqueeze(1)",
                "-points.unsqueeze(0), -points.unsqueeze(1)",
            ),
            Mistake(
                "dominated-returned",
                "The points that are dominated are returned. It is the others.",
                "(~dominated.any(dim=1))",
                "dominated.any(dim=1)",
            ),
            Mistake(
                "best-in-one-figure",
                "Only points that are the best in some figure are returned. The compromises between them belong to "
                "the front as well.",
                "(~dominated.any(dim=1))",
                "(~dominated.any(dim=1) & (points == points.amin(dim=0)).any(dim=1))",
            ),
            Mistake(
                "best-sum",
                "The point with the smallest sum of figures is returned. A front needs no weights between them.",
                "(~dominated.any(dim=1))",
                "(points.sum(dim=1) == points.sum(dim=1).min())",
            ),
            Mistake(
                "hull",
                "Only points are kept for which some weighted sum of the figures is smallest. The front may be bent "
                "outwards: what is not "
                "dominated belongs to it.",
                "(~dominated.any(dim=1))",
                "(~dominated.any(dim=1) & torch.stack([points @ w == (points @ w).min() "
                "for w in torch.rand(4000, points.size(1), generator=torch.Generator().manual_seed(0), dtype=points.dtype)])"
                ".any(dim=0))",
            ),
            Mistake(
                "first-two-figures",
                "Only the first two figures are compared. There may be more.",
                "points.unsqueeze(0), points.unsqueeze(1)",
                "points[:, :2].unsqueeze(0), points[:, :2].unsqueeze(1)",
            ),
            Mistake(
                "sorted-by-size",
                "The rows are sorted by their first figure. They are returned in ascending order of their numbers.",
                ".nonzero().flatten().tolist()",
                ".nonzero().flatten()[points[~dominated.any(dim=1), 0].argsort(stable=True)].tolist()",
            ),
        ],
    ),
    Exercise(
        "fake_quantize",
        points=4,
        cases=fake_cases,
        stretch=True,
        mistakes=[
            Mistake(
                "no-gradient",
                "The gradient of the rounding is used, which is 0 everywhere. It should pass as if nothing had been rounded.",
                "passing + (scale * steps.clamp(-127, 127) - x).detach()",
                "scale * (x / scale).round().clamp(-127, 127)",
            ),
            Mistake(
                "passes-everywhere",
                "The gradient passes also where x was cut off. There it is 0.",
                "torch.where(within, x, x.detach())",
                "x",
            ),
            Mistake(
                "gradient-by-scale",
                "The gradient is divided by the scale: the rounding is passed over, the division before it not undone.",
                "torch.where(within, x, x.detach())",
                "torch.where(within, x / scale + (x - x / scale).detach(), x.detach())",
            ),
            Mistake(
                "gradient-where-cut-off",
                "The gradient passes where x was cut off, and nowhere else.",
                "torch.where(within, x, x.detach())",
                "torch.where(~within, x, x.detach())",
            ),
            Mistake(
                "range-before-rounding",
                "Whether x is within the range was asked before rounding. 127.3 steps are rounded to 127, which is within.",
                "steps = (x / scale).detach().round()",
                "steps = (x / scale).detach()",
                also=[("scale * steps.clamp(-127, 127)", "scale * steps.round().clamp(-127, 127)")],
            ),
            Mistake(
                "not-rounded",
                "The value is kept within the range but not rounded.",
                "steps.clamp(-127, 127)",
                "(x / scale).clamp(-127, 127)",
            ),
            Mistake(
                "not-cut-off",
                "The value is rounded but not kept within the range.",
                "steps.clamp(-127, 127)",
                "steps",
            ),
            Mistake(
                "down-to-128",
                "The range begins at -128. Symmetric steps go from -127 to 127.",
                "steps.clamp(-127, 127)",
                "steps.clamp(-128, 127)",
                also=[("steps >= -127", "steps >= -128")],
            ),
            Mistake(
                "steps-returned",
                "The number of steps is returned. It is multiplied by the scale again.",
                "scale * steps.clamp(-127, 127) - x",
                "steps.clamp(-127, 127) - x",
            ),
            Mistake(
                "scale-trained",
                "A gradient flows to the scale. It gets none.",
                "    scale = scale.detach()\n",
                "",
                also=[
                    (
                        "(scale * steps.clamp(-127, 127) - x).detach()",
                        "(scale * steps.clamp(-127, 127) - x.detach())",
                    )
                ],
            ),
        ],
    ),
    Exercise(
        "cubic_sparsity",
        points=3,
        cases=cubic_cases,
        stretch=True,
        mistakes=[
            Mistake("linear", "The curve is a straight line. It is cubic.", "(1 - done) ** 3", "(1 - done)"),
            Mistake("squared", "The curve is a square. It is cubic.", "** 3", "** 2"),
            Mistake(
                "slow-first",
                "The sparsity grows slowly at first and fast at the end. It is the other way round: what is left to "
                "do is cubed.",
                "return final + (initial - final) * (1 - done) ** 3",
                "return initial + (final - initial) * done**3",
            ),
            Mistake(
                "begins-at-zero",
                "The initial sparsity is left out: the curve begins at 0.",
                "(initial - final)",
                "(-final)",
            ),
            Mistake(
                "final-added-to-initial",
                "The curve goes from the initial sparsity up by the final one. It ends at the final one.",
                "final + (initial - final) * (1 - done) ** 3",
                "initial + final * (1 - (1 - done) ** 3)",
            ),
            Mistake(
                "exchanged",
                "The curve goes from the final sparsity to the initial one.",
                "final + (initial - final)",
                "initial + (final - initial)",
            ),
            Mistake(
                "no-end",
                "The curve goes on beyond the end. From there on it stays at the final sparsity.",
                "min(1.0, max(0.0, (step - begin) / (end - begin)))",
                "max(0.0, (step - begin) / (end - begin))",
            ),
            Mistake(
                "no-beginning",
                "The curve is followed before it begins. Up to there it is the initial sparsity.",
                "max(0.0, (step - begin) / (end - begin))",
                "(step - begin) / (end - begin)",
            ),
            Mistake(
                "begin-not-subtracted",
                "Updates are counted from 0, not from the beginning of the curve.",
                "(step - begin) / (end - begin)",
                "step / end",
            ),
            Mistake(
                "end-taken-for-length",
                "The updates since the beginning are divided by `end`. The curve is end - begin updates long.",
                "(step - begin) / (end - begin)",
                "(step - begin) / end",
            ),
        ],
    ),
    Exercise(
        "sparse_step",
        points=3,
        cases=step_cases,
        stretch=True,
        mistakes=[
            Mistake(
                "grows-back",
                "Pruned weights grow back: only their gradients are stopped, but momentum carries on what came before.",
                "(momentum * velocity + gradient) * mask\n    weight = (weight - lr * velocity) * mask",
                "momentum * velocity + gradient * mask\n    weight = weight - lr * velocity",
            ),
            Mistake(
                "mask-not-used",
                "Pruned weights are trained like the others: the mask is not used.",
                "(momentum * velocity + gradient) * mask\n    weight = (weight - lr * velocity) * mask",
                "momentum * velocity + gradient\n    weight = weight - lr * velocity",
            ),
            Mistake(
                "frozen-not-zero",
                "Pruned weights stay at the value that they had. They are 0 afterwards.",
                "(weight - lr * velocity) * mask",
                "weight - lr * velocity",
            ),
            Mistake(
                "velocity-not-masked",
                "The velocities of pruned weights are not 0 afterwards.",
                "(momentum * velocity + gradient) * mask",
                "momentum * velocity + gradient",
            ),
            Mistake(
                "mask-reversed",
                "What should stay is set to zero: the mask is True for what stays.",
                "velocity = (momentum",
                "mask = ~mask\n    velocity = (momentum",
            ),
            Mistake(
                "uphill",
                "The update goes up the gradient. It goes down: weight - lr * velocity.",
                "weight - lr",
                "weight + lr",
            ),
            Mistake(
                "old-velocity",
                "The weight moves by the velocity from before. It moves by the new one.",
                "velocity = (momentum * velocity + gradient) * mask\n    weight = (weight - lr * velocity) * mask",
                "weight = (weight - lr * velocity) * mask\n    velocity = (momentum * velocity + gradient) * mask",
            ),
            Mistake(
                "damped",
                "The gradient is multiplied by 1 - momentum. In torch.optim.SGD it is added as it is.",
                "+ gradient)",
                "+ (1 - momentum) * gradient)",
            ),
            Mistake(
                "lr-in-velocity",
                "The learning rate is applied within the velocity. There it is applied when the weight moves.",
                "velocity = (momentum * velocity + gradient) * mask\n    weight = (weight - lr * velocity) * mask",
                "velocity = (momentum * velocity + lr * gradient) * mask\n    weight = (weight - velocity) * mask",
            ),
            Mistake(
                "no-momentum",
                "The velocity from before is dropped: this is an update without momentum.",
                "momentum * velocity + gradient",
                "gradient",
            ),
            Mistake(
                "arguments-changed",
                "The tensors that were given are changed. New ones are to be returned.",
                "velocity = (momentum * velocity + gradient) * mask\n    weight = (weight - lr * velocity) * mask",
                "velocity.mul_(momentum).add_(gradient).mul_(mask)\n    weight.sub_(lr * velocity).mul_(mask)",
            ),
        ],
    ),
    # --------------------------------------------------------------------------------------------- trained models
    Artifact(
        name="small_translator",
        file="small_translator.safetensors",
        figure="bits per character",
        lower_is_better=True,
        thresholds=goals_of(RESULTS, points=15),
        inputs=heldout_pairs,
        score=score_translation,
        where="held-out pages of LibreOffice's help",
        max_bytes=2 * 2**20,
    ),
]
