"""Cost of neural memories: the dual form and the scan, the surprise of tokens, and memory as context."""

from dataclasses import dataclass
from itertools import pairwise

from ammon.analysis.cost_record import Cost, Number, least, quotient, up

FORMS = ("dual", "scan")


@dataclass(frozen=True)
class Inner:
    """Sizes of a `NeuralMemory` with an `Mlp`. form: how it is run; residual: with a norm and a way around it.

    orthogonal: Newton-Schulz steps to which it puts its momentum, by the scan; 0 for none.
    """

    heads: Number = 1
    depth: int = 2
    expansion: Number = 4
    chunk: Number = 16
    convolution: Number = 4
    form: str = "dual"
    residual: bool = False
    orthogonal: int = 0

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ValueError(f'Inner: form must be "dual" or "scan", got {self.form!r}.')
        if self.orthogonal and self.form == "dual":
            raise ValueError(f'Inner: the dual form has no orthogonal momentum, got {self.orthogonal} steps; use form="scan".')

    def pairs(self, dim: Number) -> list[tuple[Number, Number]]:
        """Rows and columns of each matrix, were there one head."""
        return list(pairwise([dim] + [self.expansion * dim] * (self.depth - 1) + [dim]))

    def matrices(self, dim: Number) -> tuple[Number, Number]:
        """W, all matrices of all heads, and w, the first of them."""
        sizes = [rows * columns for rows, columns in self.pairs(dim)]
        # a head is of dim/heads entries, so its matrices are heads² smaller, and there are `heads` of them
        return quotient(sum(sizes), self.heads), quotient(sizes[0], self.heads)

    def newton_schulz(self, dim: Number) -> Number:
        """Operations that make the momentum of all heads orthogonal for one token: a step of r × c entries, r <= c, has 4 r² c + 2 r³."""
        # an expansion is at least 1, so the ends are the shorter sides
        shorter = [dim if end else self.expansion * dim for end in (place in (0, self.depth - 1) for place in range(self.depth))]
        both = zip(shorter, self.pairs(dim), strict=True)
        step = sum(4 * short * rows * columns + 2 * short**3 for short, (rows, columns) in both)
        return self.orthogonal * quotient(step, self.heads**2)


def neural(
    dim: Number, time: Number, inner: Inner | None = None, *, continued: bool = False, batch: Number = 1, itemsize: Number = 4
) -> Cost:
    """`NeuralMemory` with an `Mlp`. W: its matrices, all heads; w: the first of them; b: the chunk. Per token, beside 8 dim² + 6 dim heads:

    dual: 12 W - 2 w + 8 W / b + 2 b Σ(in + out) + 2 b (b + 1) heads (residual: without 8 W / b); scan: 8 W - 2 w, and with an orthogonal
    momentum Σ(4 r² c + 2 r³) for each of its steps. continued: from a state, where a call must allow for chunks that begin anywhere, so
    that it runs up to a chunk more (not for one token).
    """
    inner = inner or Inner()
    matrices, first = inner.matrices(dim)
    slots, size = _slots(time, inner.chunk, continued)
    per_slot = 8 * matrices - 2 * first + inner.newton_schulz(dim)
    if inner.form == "dual":
        widths = sum(rows + columns for rows, columns in inner.pairs(dim))
        per_slot = 12 * matrices - 2 * first + 2 * size * widths + 2 * size * (size + 1) * inner.heads
    # weights and momentum are mixed by one product of [2, 2] for each chunk; not for a residual network
    mixing = 8 * matrices * quotient(slots, size) if inner.form == "dual" and not inner.residual else 0
    flops = batch * (time * (8 * dim * dim + 6 * dim * inner.heads) + slots * per_slot + mixing)
    parameters = 4 * dim * dim + 3 * inner.heads * (dim + 1) + 3 * dim * inner.convolution + quotient(dim, inner.heads) + matrices
    # weights, momentum and the weights at the chunk's start; the tail of the convolution; the count in the chunk
    state = batch * (3 * matrices * itemsize + (inner.convolution - 1) * 3 * dim * itemsize + 8)
    moved = (2 if continued else 1) * state + itemsize * (parameters + 2 * batch * time * dim)
    return Cost(flops, parameters, state, moved)


def surprise(
    dim: Number, time: Number, inner: Inner | None = None, *, continued: bool = False, batch: Number = 1, itemsize: Number = 4
) -> Cost:
    """`NeuralMemory.surprise`, beside the memory itself. Per token 6 dim² + 6 dim heads and, dual, 12 W - 4 w + 2 b (b + 1) heads; scan,

    10 W - 4 w. It holds nothing.
    """
    inner = inner or Inner()
    matrices, first = inner.matrices(dim)
    slots, size = _slots(time, inner.chunk, continued)
    dual = 12 * matrices - 4 * first + 2 * size * (size + 1) * inner.heads
    per_slot = dual if inner.form == "dual" else 10 * matrices - 4 * first
    flops = batch * (time * (6 * dim * dim + 6 * dim * inner.heads) + slots * per_slot)
    return Cost(flops, 0, 0, itemsize * batch * time * (dim + 1))


def context(
    dim: Number,
    time: Number,
    inner: Inner | None = None,
    *,
    persistent: Number = 0,
    continued: bool = False,
    batch: Number = 1,
    itemsize: Number = 4,
) -> Cost:
    """`MemoryAsContext`; a segment is a chunk of its memory, n = b tokens of it are run, but 1 if time is 1.

    Per token, beside the memory: 16 dim² + 2 W + 4 dim (2 (b - 1) + 2 n + persistent); per segment 4 dim² persistent.
    """
    inner = inner or Inner()
    single, chunk = time == 1, inner.chunk
    size = 1 if single else chunk
    number = quotient(up(time + chunk - 1 if continued and not single else time, size), size)
    matrices, _ = inner.matrices(dim)
    # the first segment may begin anywhere in its chunk
    written = [neural(dim, size, inner, continued=begun, batch=batch, itemsize=itemsize) for begun in (continued, False)]
    slots = 2 * (chunk - 1)
    own = batch * size * (16 * dim * dim + 2 * matrices + 4 * dim * (slots + 2 * size + persistent)) + 4 * dim * dim * persistent
    flops = number * own + written[0].flops + (number - 1) * written[1].flops
    parameters = 5 * dim * dim + (3 + persistent) * dim + written[0].parameters
    state = batch * 2 * slots * dim * itemsize + written[0].state_bytes
    moved = (2 if continued else 1) * state + itemsize * (parameters + 2 * batch * time * dim)
    return Cost(flops, parameters, state, moved)


def _slots(time: Number, chunk: Number, continued: bool) -> tuple[Number, Number]:
    """Tokens that are run, and how many of them at once."""
    slots = time + chunk - 1 if continued and time != 1 else time
    size = least(chunk, slots)
    return up(slots, size), size
