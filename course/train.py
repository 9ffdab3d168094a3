"""Small helpers for experiments: one training loop, two sanity checks, bits per character, and saving what was trained."""

import contextlib
import copy
import json
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # without ipywidgets tqdm falls back to a bar of text, and says so
    from tqdm.auto import tqdm

Batch = tuple[Tensor, ...]
BatchAt = Callable[[int], Batch]
Loss = Callable[..., Tensor]
Rate = Callable[["History"], float]
Clip = Callable[[list[Tensor], float], tuple[list[Tensor], Tensor]]


# ------------------------------------------------------------------------------------------------------ batches


def _generator(seed: int, number: int) -> torch.Generator:
    """A generator for one batch or epoch of one run, whatever was drawn before: so a run can be resumed at any update."""
    return torch.Generator().manual_seed(seed * 1_000_003 + number)


def text_batches(ids: Tensor, batch_size: int, context: int, seed: int) -> BatchAt:
    """Random windows of a text: update -> (tokens,), with tokens (batch_size, context + 1) on the device of ids (N,)."""

    def batch_at(update: int) -> Batch:
        starts = torch.randint(len(ids) - context, (batch_size, 1), generator=_generator(seed, update))
        return (ids[(starts + torch.arange(context + 1)).to(ids.device)],)

    return batch_at


def padded_batches(tokens: Tensor, lengths: Tensor, labels: Tensor, batch_size: int, seed: int) -> BatchAt:
    """Rows in a new order each epoch: update -> (tokens, lengths, labels), cut to the longest row of the batch.

    tokens (N, T), lengths (N,), labels (N,) on one device. What is left over at the end of an epoch is dropped.
    """
    per_epoch = len(tokens) // batch_size

    def batch_at(update: int) -> Batch:
        epoch, at = divmod(update, per_epoch)
        order = torch.randperm(len(tokens), generator=_generator(seed, epoch))
        rows = order[at * batch_size : (at + 1) * batch_size].to(tokens.device)
        return tokens[rows, : int(lengths[rows].max())], lengths[rows], labels[rows]

    return batch_at


def pair_batches(
    sources: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    max_tokens: int,
    seed: int,
    device: torch.device | str = "cpu",
) -> BatchAt:
    """Pairs of about one length: update -> (source (B, S), target (B, T)) int64, padded with 0, B S and B T <= max_tokens.

    A pair's length is that of its longer side. The pairs stand in the order of length, by chance where it is equal. A batch
    ends at one that is drawn with a chance in proportion to its length, and has as many before it as there is room for. So
    long pairs, of which few fit into a batch, are seen as often as short ones.
    """
    lengths = [max(len(source), len(target)) for source, target in zip(sources, targets, strict=True)]
    by_chance = torch.randperm(len(lengths), generator=_generator(seed, -1)).tolist()
    order = sorted(by_chance, key=lambda i: (lengths[i], len(sources[i])))
    ends = torch.tensor([lengths[i] for i in order]).cumsum(0)

    def batch_at(update: int) -> Batch:
        drawn = torch.randint(int(ends[-1]), (1,), generator=_generator(seed, update))
        last = int(torch.searchsorted(ends, drawn, right=True))
        rows = max(1, max_tokens // lengths[order[last]])
        chosen = order[max(0, last + 1 - rows) : last + 1]
        return tuple(padded(side, chosen, device) for side in (sources, targets))

    return batch_at


def padded(side: Sequence[Sequence[int]], rows: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """Some of the sequences as (B, T) int64, padded with 0 on the right."""
    return nn.utils.rnn.pad_sequence([torch.tensor(side[i]) for i in rows], batch_first=True).to(device)


# ----------------------------------------------------------------------------------------------------- training


@dataclass
class History:
    """What happened in a run. `points` holds (update, seconds trained, tokens seen, figure) for each evaluation.

    Seconds are those spent on updates, by the clock of `fit`; evaluations and drawing are not counted. `stopped` says why a
    run ended before all its updates.
    """

    losses: list[float] = field(default_factory=list)
    points: list[tuple[int, float, int, float]] = field(default_factory=list)
    seconds: float = 0.0
    seen: int = 0
    stopped: str = ""

    @property
    def updates(self) -> int:
        return len(self.losses)

    @property
    def figure(self) -> float:
        """The last evaluation, NaN if there was none."""
        return self.points[-1][3] if self.points else math.nan


def clip_in_place(grads: list[Tensor], max_norm: float) -> tuple[list[Tensor], Tensor]:
    """PyTorch's own clipping by the global norm."""
    holders = [torch.empty_like(grad) for grad in grads]  # it clips the `.grad` of tensors
    for holder, grad in zip(holders, grads, strict=True):
        holder.grad = grad
    return grads, nn.utils.clip_grad_norm_(holders, max_norm)


def fit(
    model: nn.Module,
    batch_at: BatchAt,
    loss: Loss,
    updates: int,
    *,
    lr: float | Rate = 2e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] | None = None,
    max_norm: float = 1.0,
    clip: Clip = clip_in_place,
    evaluate: Callable[[nn.Module], float] | None = None,
    every: int = 0,
    every_seconds: float = math.inf,
    stop_at: float = math.inf,
    seconds: float = math.inf,
    clock: Callable[[], float] = time.perf_counter,
    checkpoint: Path | str | None = None,
    label: str = "training",
) -> History:
    """Trains with Adam, gradients clipped by `clip` (the student's, if given), and shows a bar and, in a notebook, a curve.

    batch_at   update -> batch, tensors on the model's device
    loss       (model, *batch) -> scalar
    lr         the learning rate, or a function of the history so far, asked before each update
    optimizer  model -> the optimizer, in place of Adam with these betas; its groups all get the learning rate `lr`
    evaluate   model -> figure, every `every` updates, whenever another `every_seconds` were spent, and after the last;
               training stops once it is at least `stop_at`
    seconds    training also stops once so many were spent on updates
    clock      what counts them; time.process_time counts the processor's, whatever else the machine is busy with
    checkpoint a file: a run that was interrupted goes on from there; removed when the run is complete

    Interrupting the kernel ends the run and returns what there is. Raises FloatingPointError where the loss is no longer
    finite.
    """
    history = History()
    optimizer = optimizer(model) if optimizer else torch.optim.Adam(model.parameters(), betas=betas)
    path = Path(checkpoint) if checkpoint else None
    if path and path.exists():
        history = resume(path, model, optimizer)
    curve = _LiveCurve(label)
    bar = tqdm(
        total=updates, initial=history.updates, desc=label, mininterval=0.5, disable=None if _kernel() else False
    )
    model.train()
    try:
        while history.updates < updates and not history.stopped:
            began, before = clock(), history.seconds
            for group in optimizer.param_groups:
                group["lr"] = lr(history) if callable(lr) else lr
            batch = batch_at(history.updates)
            value = loss(model, *batch)
            optimizer.zero_grad()
            value.backward()
            parameters = [p for p in model.parameters() if p.grad is not None]
            clipped, _ = clip([p.grad for p in parameters], max_norm)
            for parameter, grad in zip(parameters, clipped, strict=True):
                parameter.grad = grad
            optimizer.step()
            history.losses.append(value.item())
            history.seconds += clock() - began
            history.seen += batch[0].numel()
            if not math.isfinite(history.losses[-1]):
                raise FloatingPointError(f"{label}: the loss is {history.losses[-1]} at update {history.updates}")
            bar.update()
            curve.show(history)
            if history.seconds >= seconds:
                history.stopped = "out of time"
            last = history.updates == updates or history.stopped
            due = every and history.updates % every == 0
            due = due or history.seconds // every_seconds > before // every_seconds
            if evaluate and (last or due):
                figure = _evaluated(model, evaluate)
                history.points.append((history.updates, history.seconds, history.seen, figure))
                bar.set_postfix_str(f"loss {history.losses[-1]:.3f}, {figure:.3f}")
                if figure >= stop_at:
                    history.stopped = "reached"
            if path and history.updates % 100 == 0:
                _save(path, model, optimizer, history)
    except KeyboardInterrupt:
        if path:
            _save(path, model, optimizer, history)
        history.stopped = "interrupted"
    else:
        if path:
            path.unlink(missing_ok=True)
    finally:
        bar.close()
        curve.show(history, now=True)
    model.eval()
    return history


def _evaluated(model: nn.Module, evaluate: Callable[[nn.Module], float]) -> float:
    model.eval()
    with torch.no_grad():
        figure = float(evaluate(model))
    model.train()
    return figure


def _save(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, history: History) -> None:
    part = path.with_name(path.name + ".part")
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "history": asdict(history)}, part)
    part.replace(path)


def resume(path: str | Path, model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> History:
    """What the `checkpoint` of a run has: weights into the model, and the optimizer's state where one is given."""
    device = next(model.parameters()).device
    saved = torch.load(path, map_location=device, weights_only=True)
    model.load_state_dict(saved["model"])
    if optimizer is not None:
        optimizer.load_state_dict(saved["optimizer"])
    return History(**saved["history"])


def _kernel() -> bool:
    """True inside a notebook's kernel."""
    from IPython import get_ipython

    return hasattr(get_ipython(), "kernel")


class _LiveCurve:
    """The losses so far, drawn anew every two seconds in a notebook; nothing elsewhere."""

    SECONDS = 2.0

    def __init__(self, label: str):
        self.label, self.handle = label, None
        self.active, self.drawn = _kernel(), time.perf_counter()

    def show(self, history: History, now: bool = False) -> None:
        if not self.active or not history.losses or (not now and time.perf_counter() - self.drawn < self.SECONDS):
            return
        import matplotlib.pyplot as plt
        from IPython.display import display

        from course.plots import loss_curve

        axes = loss_curve(history.losses, title=self.label)
        if self.handle is None:
            self.handle = display(axes.figure, display_id=True)
        else:
            self.handle.update(axes.figure)
        plt.close(axes.figure)
        self.drawn = time.perf_counter()


# ------------------------------------------------------------------------------------------------ sanity checks


def loss_at_start(
    model: nn.Module, batch: Batch, loss: Loss, num_classes: int, base: float = math.e
) -> Sequence[float]:
    """(loss of an untrained model, log C): a model that knows nothing gives each of the C classes 1/C.

    `base` 2 for a loss in bits. A first loss far above log C means an initialisation or a loss that is off.
    """
    with torch.no_grad():
        return float(loss(model, *batch)), math.log(num_classes, base)


def overfit(model: nn.Module, batch: Batch, loss: Loss, updates: int = 200, lr: float = 1e-2) -> list[float]:
    """Losses of a copy of the model that sees one batch again and again: they must go to nearly nothing, or a bug is left."""
    model = copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    losses = []
    for _ in range(updates):
        value = loss(model, *batch)
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(value.item())
    return losses


# ---------------------------------------------------------------------------------------------------- measuring


@torch.no_grad()
def bits_per_character(
    logits_of: Callable[[Tensor], Tensor],
    ids: Tensor,
    context: int,
    *,
    characters: int | None = None,
    batch_size: int = 64,
) -> float:
    """The course's common measure: -log2 p of all tokens of a text but the first, added up, over its characters.

    logits_of   tokens (B, T) -> logits (B, T, V); logits[:, t] predict tokens[:, t + 1]; no state goes from call to call
    ids         (N,) int64, N >= 2, on the model's device
    context     the most tokens that the model sees at once, T <= context
    characters  how many characters ids[1:] stand for; by default their number, right where a token is a character

    Windows of `context` tokens follow each other at half that distance. The first scores all its predictions, each later
    one those that no window before it scored: so every prediction but the first ones sees half a context or more.
    """
    predictions = len(ids) - 1
    context = min(context, predictions)
    starts = [*range(0, predictions - context, max(context // 2, 1)), predictions - context]
    ends = torch.tensor([0] + [start + context for start in starts])
    fresh = ends.diff().to(ids.device)  # predictions that each window is the first to score
    inside = torch.arange(context, device=ids.device)
    windows = torch.tensor(starts, device=ids.device).unsqueeze(1) + inside  # (W, T)
    bits = 0.0
    for rows, new in zip(windows.split(batch_size), fresh.split(batch_size), strict=True):
        log_probs = torch.log_softmax(logits_of(ids[rows]).float(), dim=-1)  # (B, T, V)
        surprise = -log_probs.gather(2, ids[rows + 1].unsqueeze(2)).squeeze(2) / math.log(2)  # (B, T)
        bits += float(surprise[inside >= context - new.unsqueeze(1)].double().sum())
    return bits / (predictions if characters is None else characters)


@torch.no_grad()
def target_bits(
    logits_of: Callable[[Tensor, Tensor], Tensor],
    sources: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    *,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
) -> Tensor:
    """(N,) float64: -log2 p of each target given its source, added up over its tokens but the first and padding.

    logits_of: source (B, S), target (B, T), padded with 0 -> logits (B, T - 1, V); logits[:, t] predict target[:, t + 1].
    """
    bits = torch.zeros(len(targets), dtype=torch.float64)
    order = sorted(range(len(targets)), key=lambda i: (len(targets[i]), len(sources[i])))  # little padding
    for at in range(0, len(order), batch_size):
        rows = order[at : at + batch_size]
        source, target = (padded(side, rows, device) for side in (sources, targets))
        logits = logits_of(source, target).float().transpose(1, 2)  # (B, V, T - 1)
        surprise = nn.functional.cross_entropy(logits, target[:, 1:], ignore_index=0, reduction="none")
        bits[rows] = surprise.sum(dim=1).double().cpu() / math.log(2)
    return bits


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """The share of rows whose largest logit is at the label: logits (N, C), labels (N,)."""
    return float((logits.argmax(dim=-1) == labels).double().mean())


def confusion(predicted: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """(C, C) int64: how many rows of class i were taken for class j. predicted, labels (N,) int64."""
    return torch.bincount(labels * num_classes + predicted, minlength=num_classes**2).view(num_classes, num_classes)


# ------------------------------------------------------------------------------------------------------- saving


def save_artifact(stem: str, module: nn.Module | Mapping[str, Tensor], figures: dict[str, Any]) -> None:
    """Writes `stem.safetensors` (the module's parameters, or tensors by name) and `stem.json` (its figures) beside the notebook.

    These two files are submitted with the notebook and graded. Figures may hold numbers, strings, lists and dicts.
    """
    named = module.items() if isinstance(module, Mapping) else module.named_parameters()
    weights = {name: value.detach().cpu().clone().contiguous() for name, value in named}
    save_file(weights, f"{stem}.safetensors")
    with contextlib.suppress(FileNotFoundError):
        Path(f"{stem}.json").unlink()
    Path(f"{stem}.json").write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def saved_curves(weeks: Mapping[str, str], stem: str = "chars") -> dict[str, list[list[float]]]:
    """Points that earlier weeks saved with `save_artifact`, for one plot with this week's: label -> week's folder name.

    Read from `../WEEK/stem.json`, where the weeks' folders lie side by side. A week without a saved model is left out.
    """
    files = {label: Path("..") / week / f"{stem}.json" for label, week in weeks.items()}
    return {
        label: json.loads(path.read_text(encoding="utf-8"))["points"] for label, path in files.items() if path.exists()
    }
