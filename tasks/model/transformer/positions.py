"""Where a token stands, told to layers that would not know: without it a row is a bag of tokens."""

import torch

Rotation = tuple[torch.Tensor, torch.Tensor]  # cosines and sines, (batch, tokens, 1, width of a head / 2)

BASE = 10_000.0  # wavelengths lie between 2 pi and 2 pi times this


def sinusoids(position_ids: torch.Tensor, width: int) -> torch.Tensor:
    """PE(p, 2i) = sin(p / 10000^(2i / width)), PE(p, 2i + 1) the cosine (Vaswani et al. 2017, section 3.5).

    (batch, tokens) to (batch, tokens, width).
    """
    angles = _angles(position_ids, width)
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(-2)


def rotation(position_ids: torch.Tensor, width: int) -> Rotation:
    """What turns queries and keys of heads of a width by their positions, (batch, tokens)."""
    angles = _angles(position_ids, width)[:, :, None]
    return angles.cos(), angles.sin()


def rotated(states: torch.Tensor, by: Rotation) -> torch.Tensor:
    """Queries or keys (batch, tokens, heads, width), each pair of numbers turned (Su et al. 2021, equation 34).

    A product of two of them then tells how far apart they stand, not where. A pair is (i, i + width / 2).
    """
    (first, second), (cosines, sines) = states.chunk(2, -1), by
    turned = torch.cat((first * cosines - second * sines, second * cosines + first * sines), -1)
    return turned.to(states.dtype)


def _angles(position_ids: torch.Tensor, width: int) -> torch.Tensor:
    """(batch, tokens, width / 2)"""
    even = torch.arange(0, width, 2, device=position_ids.device, dtype=torch.float32)
    return position_ids[..., None].float() * BASE ** (-even / width)
