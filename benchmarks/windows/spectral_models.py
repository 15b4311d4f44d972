"""Models that mix by Fourier transforms: FNet, and gated long convolutions."""

from __future__ import annotations

import torch
import transformers as hf


class First(torch.nn.Module):
    """The last hidden state of an FNet."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Hidden states [batch, sequence, hidden] of ids [batch, sequence]."""
        result: torch.Tensor = self.model(input_ids=x)[0]
        return result


def fnet(width: int, layers: int, longest: int) -> torch.nn.Module:
    """FNet (Lee-Thorp et al., 2021, arXiv:2105.03824) with random weights."""
    torch.manual_seed(0)
    config = hf.FNetConfig(
        vocab_size=8000, hidden_size=width, num_hidden_layers=layers, intermediate_size=4 * width,
        max_position_embeddings=longest, type_vocab_size=4, pad_token_id=3, bos_token_id=1,
        eos_token_id=2,
    )  # fmt: skip
    return First(hf.FNetModel(config, add_pooling_layer=False)).eval()


def ids(length: int) -> torch.Tensor:
    """One row of tokens."""
    return torch.randint(4, 8000, (1, length), generator=torch.Generator().manual_seed(1))


class Convolution(torch.nn.Module):
    """`v * irfft(rfft(u * g, 2n) * rfft(h, 2n))[..., :n]`, as in Hyena (Poli et al., 2023).

    The filters h are stored; they decay over a sixteenth of the positions to all of them.
    """

    def __init__(self, width: int, length: int) -> None:
        super().__init__()
        self.length = length
        self.norm = torch.nn.LayerNorm(width)
        self.inner, self.outer = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
        decay = torch.logspace(-4, 0, width, base=2)[:, None] * length
        h = torch.randn(width, length) * torch.exp(-torch.arange(length) / decay)
        self.filters = torch.nn.Parameter(h / h.norm(dim=1, keepdim=True))
        self.skip = torch.nn.Parameter(torch.randn(width, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Hidden states [batch, length, width], mixed and added."""
        n = self.length
        u, g, v = (part.transpose(1, 2) for part in self.inner(self.norm(x)).chunk(3, -1))
        u = u * g
        spectrum = torch.fft.rfft(u, n=2 * n) * torch.fft.rfft(self.filters, n=2 * n)
        mixed = torch.fft.irfft(spectrum, n=2 * n)[..., :n] + u * self.skip
        result: torch.Tensor = x + self.outer((v * mixed).transpose(1, 2))
        return result


class Convolutions(torch.nn.Module):
    """Blocks of gated long convolutions."""

    def __init__(self, width: int, length: int, blocks: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = torch.nn.Sequential(*(Convolution(width, length) for _ in range(blocks)))
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Hidden states [batch, length, width]."""
        result: torch.Tensor = self.blocks(x)
        return result


def signal(length: int, width: int) -> torch.Tensor:
    """Normal random numbers."""
    return torch.randn(1, length, width, generator=torch.Generator().manual_seed(1))
