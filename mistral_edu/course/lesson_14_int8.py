"""The exercise of lesson 14 in which a matrix is rounded to 8 bits, a matrix that lies on its side.

The truth is `quantization.quantize_weight`. Answers are compared by the weights that their codes
stand for, because a column of zeros may have any step.
"""

import torch

from mistral_edu.course.checking import by_cases
from mistral_edu.course.exercise import Exercise, Mutant
from mistral_edu.quantization import quantize_weight


def quantize_sideways(weight):
    largest = weight.abs().amax(dim=0)
    steps = torch.where(largest > 0, largest / 127, 1.0)
    codes = (weight / steps).round().to(torch.int8)
    return codes, steps


def library_sideways(weight):
    codes, steps = quantize_weight(weight.T)
    return codes.T, steps


def one_step_for_all(weight):
    step = weight.abs().max() / 127
    return (weight / step).round().to(torch.int8), step.expand(weight.shape[1])


def a_step_for_each_input(weight):
    steps = (weight.abs().amax(dim=1) / 127).clamp(min=1e-30)
    return (weight / steps[:, None]).round().to(torch.int8), steps


def without_a_guard(weight):
    steps = weight.abs().amax(dim=0) / 127
    return (weight / steps).round().nan_to_num().to(torch.int8), steps


def truncated(weight):
    _, steps = quantize_sideways(weight)
    return (weight / steps).to(torch.int8), steps


def largest_with_its_sign(weight):
    steps = (weight.amax(dim=0) / 127).clamp(min=1e-30)
    return (weight / steps).round().clamp(-127, 127).to(torch.int8), steps


def a_128th(weight):
    steps = (weight.abs().amax(dim=0) / 128).clamp(min=1e-30)
    return (weight / steps).round().clamp(-127, 127).to(torch.int8), steps


def what_it_means(answer, weight):
    """Codes and the weights they stand for; a column of zeros may have any step above zero."""
    codes, steps = answer(weight)
    steps = torch.as_tensor(steps).reshape(-1)
    return {
        "type": str(codes.dtype).removeprefix("torch."),
        "codes": codes,
        "weights": codes.float() * steps,
        "every step is above zero": bool((steps > 0).all()),
    }


INT8 = Exercise(
    id="14.int8",
    title="Eight bits, sideways",
    difficulty=2,
    minutes=9,
    task="""Some libraries keep a layer's matrix lying on its side, as (in, out), and compute
*y* = *x* · `weight`. Write `quantize_sideways(weight)` for such a matrix: return `codes`, an int8
tensor of the same shape with values from −127 to 127, and `steps`, one for each *output*, so that
`codes * steps` is as near to `weight` as the steps allow. An output whose weights are all zero
occurs, and no step may be zero.""",
    stub='''def quantize_sideways(weight):
    """Codes (in, out) in int8, and steps (out,)."""
    ...''',
    check=by_cases(
        [
            (torch.tensor([[1.27], [-0.026], [0.014]]),),
            (torch.tensor([[1.27, 0.0], [-0.026, -254.0], [0.014, 5.5]]),),
            (torch.tensor([[0.0, 0.3], [0.0, -0.1]]),),
            (torch.tensor([[0.9, 0.01, -5.0], [-0.2, 0.03, 4.2]]),),
        ],
        truth=library_sideways,
        run=what_it_means,
    ),
    hints=(
        "An output is a column now. Along which dimension do you look for its largest weight?",
        "`weight.abs().amax(dim=0)` has a number for each column. Divide, `round()`, then "
        "`.to(torch.int8)`: without rounding, the conversion cuts off.",
        "A column of zeros divides 0 by 0. Give it any step above zero: `steps.clamp(min=1e-30)`.",
    ),
    solution=quantize_sideways,
    mutants=(
        Mutant(
            one_step_for_all,
            "one step for the whole matrix: a large output makes the small ones coarse",
            says="whole matrix",
        ),
        Mutant(
            a_step_for_each_input,
            "a step for each row, but rows are inputs here: no sum could take it in afterwards",
            says="rows are inputs",
        ),
        Mutant(
            without_a_guard,
            "an output of zeros gets the step 0, and 0 / 0 is no number",
            says="output of zeros",
        ),
        Mutant(
            truncated,
            "it cuts off instead of rounding, which doubles the largest error",
            says="cuts off",
        ),
        Mutant(
            largest_with_its_sign,
            "the largest is looked for with its sign: an output whose largest weight is negative "
            "is cut off at a small positive one",
            says="with its sign",
        ),
        Mutant(
            a_128th,
            "the largest weight would be 128 steps, which is no code; its code is 127",
            says="no code",
        ),
    ),
)
