# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# Week 7: correct answers in other styles. All must pass.

# %% alternate="quantize" name="channel-by-channel"
def quantize(x, scheme="affine", axis=None):
    def one(values):
        lo, hi = min(values.min().item(), 0.0), max(values.max().item(), 0.0)
        if scheme == "affine":
            s = (hi - lo) / 255 or 1.0
            z = int(min(127, max(-128, round(-128 - lo / s))))
            return torch.clamp(torch.round(values / s) + z, -128, 127), s, z
        s = max(-lo, hi) / 127 or 1.0
        return torch.clamp(torch.round(values / s), -127, 127), s, 0

    if scheme != "affine" and scheme != "symmetric":
        raise ValueError(scheme)
    if axis is None:
        q, s, z = one(x)
        return q.to(torch.int8), torch.tensor(s, dtype=x.dtype), torch.tensor(z, dtype=torch.int32)
    found = [one(part) for part in x.unbind(axis)]
    q = torch.stack([part for part, _, _ in found], dim=axis).to(torch.int8)
    scales = torch.tensor([s for _, s, _ in found], dtype=x.dtype)
    return q, scales, torch.tensor([z for _, _, z in found], dtype=torch.int32)


# %% alternate="quantize" name="by-torch"
def quantize(x, scheme="affine", axis=None):
    if scheme not in {"affine", "symmetric"}:
        raise ValueError("unknown scheme")
    rows = x[None] if axis is None else x.transpose(0, axis)
    rows = rows.flatten(1) if rows.ndim > 1 else rows[:, None]
    zero = torch.zeros((), dtype=x.dtype)
    low, high = torch.minimum(rows.min(1).values, zero), torch.maximum(rows.max(1).values, zero)
    if scheme == "symmetric":
        s = rows.abs().max(1).values / 127
        s[s == 0] = 1
        z = torch.zeros(len(rows), dtype=torch.int32)
    else:
        s = (high - low) / 255
        s[s == 0] = 1
        z = torch.round(-128 - low / s).int()
    bottom = -127 if scheme == "symmetric" else -128
    q = (torch.round(rows / s[:, None]).int() + z[:, None]).clamp(bottom, 127).to(torch.int8)
    if axis is None:
        return q.reshape(x.shape), s[0], z[0]
    return q.reshape(x.transpose(0, axis).shape).transpose(0, axis), s, z


# %% alternate="dequantize" name="moved-to-the-end"
def dequantize(q, scale, zero_point, axis=None):
    if axis is None:
        return (q.to(scale.dtype) - zero_point) * scale
    return ((q.to(scale.dtype).movedim(axis, -1) - zero_point) * scale).movedim(-1, axis)


# %% alternate="dequantize" name="channel-by-channel"
def dequantize(q, scale, zero_point, axis=None):
    if axis is None:
        return (q.long() - zero_point.long()) * scale
    parts = [(part.long() - int(z)) * s for part, s, z in zip(q.unbind(axis), scale, zero_point, strict=True)]
    return torch.stack(parts, dim=axis)


# %% alternate="int8_linear" name="exact-floats"
def int8_linear(x, weight, scale, bias=None):
    # Whole numbers below 2**53 are exact in float64.
    q, s, _ = quantize(x, "symmetric", None)
    y = F.linear(q.double(), weight.double()) * s.double() * scale.double()
    if bias is not None:
        y = y + bias.double()
    return y.to(x.dtype)


# %% alternate="int8_linear" name="sum-of-products"
def int8_linear(x, weight, scale, bias=None):
    q, s, _ = quantize(x, "symmetric")
    products = q.int().unsqueeze(-2) * weight.int()  # (..., out, in)
    y = products.sum(dim=-1).to(x.dtype) * scale * s
    if bias is not None:
        y += bias
    return y


# %% alternate="quantize_model" name="by-recursion"
def quantize_model(model, keep=()):
    def measure():
        every = {id(t): t for t in list(model.parameters()) + list(model.buffers())}
        return sum(t.nbytes for t in every.values())

    owners = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            owners.setdefault(id(parameter), []).append(module)

    def walk(parent, prefix):
        for name, child in list(parent.named_children()):
            full = prefix + name
            if isinstance(child, nn.Linear):
                if full not in keep and len(owners[id(child.weight)]) < 2:
                    parent._modules[name] = QuantizedLinear(child)
            else:
                walk(child, full + ".")

    before = measure()
    walk(model, "")
    after = measure()
    return dict(before=before, after=after)


# %% alternate="quantize_model" name="shared-found-by-storage"
def quantize_model(model, keep=()):
    def tensors():
        return [t for m in model.modules() for t in (*m.parameters(recurse=False), *m.buffers(recurse=False))]

    def measure():
        return sum({t.data_ptr(): t.numel() * t.element_size() for t in tensors()}.values())

    pointers = [t.data_ptr() for t in tensors()]
    before = measure()
    for name, module in [*model.named_modules()]:
        if not isinstance(module, nn.Linear) or name in set(keep) or pointers.count(module.weight.data_ptr()) > 1:
            continue
        parts = name.split(".")
        owner = model
        for part in parts[:-1]:
            owner = getattr(owner, part)
        owner.register_module(parts[-1], QuantizedLinear(module))
    return {"after": measure(), "before": before}


# %% alternate="distillation_loss" name="kl-div"
def distillation_loss(student_logits, teacher_logits, targets, temperature, alpha):
    with torch.no_grad():
        teacher = F.log_softmax(teacher_logits / temperature, -1)
    student = F.log_softmax(student_logits / temperature, -1)
    soft = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
    hard = F.nll_loss(F.log_softmax(student_logits, -1), targets)
    return alpha * temperature * temperature * soft + (1 - alpha) * hard


# %% alternate="distillation_loss" name="cross-entropy-less-entropy"
def distillation_loss(student_logits, teacher_logits, targets, temperature, alpha):
    teacher = (teacher_logits.detach() / temperature).softmax(dim=1)
    cross = -(teacher * torch.log_softmax(student_logits / temperature, dim=1)).sum() / len(targets)
    entropy = -torch.special.xlogy(teacher, teacher).sum() / len(targets)
    hard = torch.logsumexp(student_logits, 1) - student_logits.gather(1, targets[:, None]).squeeze(1)
    return alpha * temperature**2 * (cross - entropy) + (1 - alpha) * hard.mean()


# %% alternate="match_hidden" name="sums"
def match_hidden(student, teacher, projections, mask):
    L, M = len(student), len(teacher)
    loss = 0
    for i in range(1, L + 1):
        target = teacher[i * M // L - 1].detach()
        error = (F.linear(student[i - 1], projections[i - 1]) - target) ** 2
        loss = loss + (error * mask[..., None]).sum() / (mask.sum() * target.size(-1))
    return loss / L


# %% alternate="match_hidden" name="mse-loss"
def match_hidden(student, teacher, projections, mask):
    step = len(teacher) / len(student)
    total = []
    for i, h in enumerate(student):
        with torch.no_grad():
            wanted = teacher[int((i + 1) * step) - 1][mask]
        total.append(F.mse_loss(torch.einsum("nd,ed->ne", h[mask], projections[i]), wanted))
    return sum(total) / len(total)


# %% alternate="head_importance" name="backward-to-the-gates"
def head_importance(loss_of, examples, num_layers, num_heads):
    rows = []
    for example in examples:
        gates = torch.ones(num_layers, num_heads).requires_grad_()
        loss_of(example, gates).backward(inputs=[gates])
        rows.append(gates.grad.abs())
    return F.normalize(torch.stack(rows).mean(dim=0), dim=1)


# %% alternate="head_importance" name="list-of-losses"
def head_importance(loss_of, examples, num_layers, num_heads):
    every = torch.ones(len(examples), num_layers, num_heads, requires_grad=True)
    losses = torch.stack([loss_of(example, gates) for example, gates in zip(examples, every, strict=True)])
    (gradients,) = torch.autograd.grad(losses.sum(), [every])
    found = gradients.abs().mean(0)
    squares = found.pow(2).sum(1)
    for layer in range(num_layers):
        if squares[layer] > 0:
            found[layer] /= squares[layer].sqrt()
    return found


# %% alternate="prune_heads" name="heads-as-an-axis"
def prune_heads(attention, heads):
    H = attention.num_heads
    numbers = list(heads)
    if any(h < 0 or h >= H for h in numbers):
        raise ValueError("there is no such head")
    stays = torch.ones(H, dtype=torch.bool)
    stays[numbers] = False
    if not stays.any():
        raise ValueError("no head would be left")
    with torch.no_grad():
        for name in ("q_proj", "k_proj", "v_proj"):
            old = getattr(attention, name)
            weight = old.weight.unflatten(0, (H, -1))[stays].flatten(0, 1)
            new = nn.Linear(old.in_features, len(weight), dtype=weight.dtype)
            new.weight.copy_(weight)
            new.bias.copy_(old.bias.unflatten(0, (H, -1))[stays].flatten())
            setattr(attention, name, new)
        old = attention.out_proj
        weight = old.weight.unflatten(1, (H, -1))[:, stays].flatten(1)
        new = nn.Linear(weight.size(1), old.out_features, dtype=weight.dtype)
        new.weight.copy_(weight)
        new.bias.copy_(old.bias)
        attention.out_proj = new
    attention.num_heads = int(stays.sum())


# %% alternate="prune_heads" name="data-cut-from-the-last-head"
def prune_heads(attention, heads):
    gone = sorted(set(heads), reverse=True)
    if (gone and (gone[0] >= attention.num_heads or gone[-1] < 0)) or len(gone) >= attention.num_heads:
        raise ValueError("cannot take these out")
    K = attention.head_width
    for h in gone:

        def cut(data, dim, at=h * K):
            length = data.size(dim)
            return torch.cat([data.narrow(dim, 0, at), data.narrow(dim, at + K, length - at - K)], dim=dim)

        for layer in (attention.q_proj, attention.k_proj, attention.v_proj):
            layer.weight.data, layer.bias.data = cut(layer.weight.data, 0), cut(layer.bias.data, 0)
            layer.out_features -= K
        attention.out_proj.weight.data = cut(attention.out_proj.weight.data, 1)
        attention.out_proj.in_features -= K
        attention.num_heads -= 1


# %% alternate="magnitude_prune" name="sorted-places"
def magnitude_prune(weights, sparsity):
    places = [(abs(v), name, i) for name, w in weights.items() for i, v in enumerate(w.detach().flatten().tolist())]
    places.sort(key=lambda place: place[0])
    masks = {name: torch.ones(w.numel(), dtype=torch.bool) for name, w in weights.items()}
    for _, name, i in places[: math.floor(sparsity * len(places))]:
        masks[name][i] = False
    return {name: mask.view_as(weights[name]) for name, mask in masks.items()}


# %% alternate="magnitude_prune" name="ranks"
def magnitude_prune(weights, sparsity):
    with torch.no_grad():
        flat = torch.cat([w.reshape(-1) for w in weights.values()]).abs()
    _, order = torch.sort(flat, stable=True)
    ranks = torch.empty_like(order)
    ranks[order] = torch.arange(len(order))
    keep = ranks >= int(sparsity * len(flat))
    masks, start = {}, 0
    for name, w in weights.items():
        masks[name] = keep[start : start + w.numel()].view(w.shape)
        start += w.numel()
    return masks


# %% alternate="pareto_front" name="point-by-point"
def pareto_front(points):
    rows = points.tolist()

    def dominates(a, b):
        return all(x <= y for x, y in zip(a, b, strict=True)) and a != b

    return [i for i, own in enumerate(rows) if not any(dominates(other, own) for other in rows)]


# %% alternate="pareto_front" name="survivors"
def pareto_front(points):
    left = set(range(len(points)))
    for i in range(len(points)):
        worse = (points >= points[i]).all(dim=1) & (points > points[i]).any(dim=1)
        left -= set(worse.nonzero().squeeze(1).tolist())
    return sorted(left)


# %% alternate="fake_quantize" name="a-function-of-its-own"
class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, scale):
        steps = torch.round(x / scale)
        ctx.save_for_backward(steps.abs() <= 127)
        return torch.clamp(steps, -127, 127) * scale

    @staticmethod
    def backward(ctx, upstream):
        return upstream * ctx.saved_tensors[0], None


def fake_quantize(x, scale):
    return _Rounded.apply(x, scale)


# %% alternate="fake_quantize" name="factor"
def fake_quantize(x, scale):
    with torch.no_grad():
        steps = (x / scale).round()
        y = steps.clamp(-127, 127) * scale
        passes = (steps.abs() < 127.5).to(x.dtype)
    return y + passes * (x - x.detach())


# %% alternate="cubic_sparsity" name="three-cases"
def cubic_sparsity(step, begin, end, final, initial=0.0):
    if step <= begin:
        return initial
    if step >= end:
        return final
    left = (end - step) / (end - begin)
    return final - (final - initial) * left**3


# %% alternate="sparse_step" name="where"
def sparse_step(weight, gradient, velocity, mask, lr, momentum):
    zero = torch.zeros_like(weight)
    moved = torch.where(mask, velocity * momentum + gradient, zero)
    return torch.where(mask, weight - moved * lr, zero), moved


# %% alternate="sparse_step" name="by-torch-optim"
def sparse_step(weight, gradient, velocity, mask, lr, momentum):
    parameter = nn.Parameter(weight.clone())
    parameter.grad = gradient.clone()
    optimizer = torch.optim.SGD([parameter], lr=lr, momentum=momentum)
    optimizer.state[parameter]["momentum_buffer"] = velocity.clone()
    optimizer.step()
    after = momentum * velocity + gradient
    return parameter.detach() * mask, after * mask
