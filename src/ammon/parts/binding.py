"""Binding: two rows made into one of the same size, and taken apart again (holographic reduced representations, Plate 1995).

Rows [*lead, dim]; all by Fourier transforms along the last axis, where convolution is a product frequency by frequency.
"""

import torch
from jaxtyping import Complex
from torch import Tensor

from ammon.shapes import Units

Spectrum = Complex[Tensor, "*lead frequency"]


def convolve(a: Units, b: Units) -> Units:
    """Circular convolution (a ⊛ b)_i = Σ_j a_j b_(i-j): the binding of a and b, as unlike both as they are unlike each other."""
    return _rows(_spectrum(a) * _spectrum(b), a)


def correlate(a: Units, bound: Units) -> Units:
    """Circular correlation Σ_j a_j bound_(i+j): takes a out of a binding, up to noise. It is convolution with the involution of a."""
    return _rows(_spectrum(a).conj() * _spectrum(bound), a)


def involution(a: Units) -> Units:
    """a*_i = a_(-i): the approximate inverse of a under convolution, exact for unitary rows."""
    return torch.roll(a.flip(-1), 1, -1)


def inverse(a: Units) -> Units:
    """The exact inverse of a under convolution: 1 over its spectrum, 0 where that has nothing to take apart.

    Small parts of the spectrum make it long, so what else is bound in a superposition comes back as strong noise.
    """
    return _rows(_reciprocal(_spectrum(a)), a)


def deconvolve(a: Units, bound: Units) -> Units:
    """Takes a out of a binding by its exact inverse: deconvolve(a, convolve(a, b)) = b, but for frequencies that a lacks."""
    return _rows(_reciprocal(_spectrum(a)) * _spectrum(bound), a)


def unitary(a: Units) -> Units:
    """The row with the phases of a and every part of its spectrum of size 1: of length 1, its involution is its inverse."""
    spectrum = _spectrum(a)
    size = spectrum.abs()
    tiny = torch.finfo(size.dtype).tiny
    return _rows(torch.where(size > tiny, spectrum / size.clamp_min(tiny), torch.ones_like(spectrum)), a)


def _spectrum(a: Tensor) -> Spectrum:
    # there is no Fourier transform of half precision on every device
    spectrum: Tensor = torch.fft.rfft(a.to(torch.promote_types(a.dtype, torch.float32)), dim=-1)
    return spectrum


def _rows(spectrum: Spectrum, like: Tensor) -> Tensor:
    rows: Tensor = torch.fft.irfft(spectrum, n=like.shape[-1], dim=-1)
    return rows.to(like.dtype)


def _reciprocal(spectrum: Spectrum) -> Spectrum:
    size = spectrum.abs()
    # what is below rounding is no part of the row: centred rows have no mean to divide by
    floor = 16 * torch.finfo(size.dtype).eps * size.amax(-1, keepdim=True)
    present = size > floor
    return torch.where(present, spectrum.conj() / torch.where(present, size, torch.ones_like(size)).square(), torch.zeros_like(spectrum))
