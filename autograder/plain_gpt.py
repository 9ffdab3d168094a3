"""A GPT of PyTorch's own parts and a plain training loop, to be run beside week 6's by `autograder.gpt_speed`.

Written for the comparison, in the form in which small public trainers have it: no biases, the exact GELU, an output tied to the
embedding, AdamW as it comes, `clip_grad_norm_`, float32.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Layer(nn.Module):
    def __init__(self, d_model: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.norm_1, self.norm_2 = nn.LayerNorm(d_model, bias=False), nn.LayerNorm(d_model, bias=False)
        self.qkv, self.merge = nn.Linear(d_model, 3 * d_model, bias=False), nn.Linear(d_model, d_model, bias=False)
        self.up, self.down = nn.Linear(d_model, 4 * d_model, bias=False), nn.Linear(4 * d_model, d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        B, T, D = x.shape
        q, k, v = (part.view(B, T, self.num_heads, -1).transpose(1, 2) for part in self.qkv(self.norm_1(x)).split(D, 2))
        heads = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.merge(heads.transpose(1, 2).contiguous().view(B, T, D))
        return x + self.down(F.gelu(self.up(self.norm_2(x))))


class PlainGPT(nn.Module):
    def __init__(self, vocab_size: int, context: int, d_model: int, num_heads: int, num_layers: int):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocab_size, d_model), nn.Embedding(context, d_model)
        self.layers = nn.ModuleList(Layer(d_model, num_heads) for _ in range(num_layers))
        self.norm, self.output = nn.LayerNorm(d_model, bias=False), nn.Linear(d_model, vocab_size, bias=False)
        self.output.weight = self.tokens.weight
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                last = name.endswith(("merge.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * num_layers) if last else 0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.size(1), device=tokens.device))
        for layer in self.layers:
            x = layer(x)
        return self.output(self.norm(x))


def plain(setting: Any, batch_at: Callable[[int], Tensor]) -> nn.Module:
    """A trainer for `autograder.gpt_speed`."""
    torch.manual_seed(setting.seed)
    model = PlainGPT(setting.vocab_size, setting.context, setting.d_model, setting.num_heads, setting.num_layers)
    groups = [
        {"params": [p for p in model.parameters() if p.dim() == 2], "weight_decay": setting.weight_decay},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=setting.betas)
    for update in range(setting.updates):
        if update < setting.warmup:
            rate = setting.peak * (update + 1) / (setting.warmup + 1)
        else:
            done = (update - setting.warmup) / max(setting.updates - setting.warmup, 1)
            rate = setting.lowest + 0.5 * (1 + math.cos(math.pi * done)) * (setting.peak - setting.lowest)
        for group in optimizer.param_groups:
            group["lr"] = rate
        tokens = batch_at(update)
        logits = model(tokens[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), setting.max_norm)
        optimizer.step()
    return model.eval()
