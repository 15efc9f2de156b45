"""The optimisers that are made for training: each names its rule and its options."""

from __future__ import annotations

from tinygrad_rnn.kernels.updates import equations
from tinygrad_rnn.optim.optimizer import Optimizer, Params


class SGD(Optimizer):
    """Steps along the gradient, or along its running sum.

        g ← g + weight_decay · p
        b ← g the first time, then momentum · b + (1 - dampening) · g
        p ← p - lr · b, or with nesterov p - lr · (g + momentum · b)

    Args:
        params: tensors with requires_grad, or dicts of "params" and options.
        lr: learning rate.
        momentum: how much of b stays; 0: no b is kept, and p ← p - lr · g.
        dampening: how much of the gradient b leaves out.
        weight_decay: weight of ½ p² in what is minimised.
        nesterov: look ahead along b; needs a momentum and no dampening.
        maximize: climb instead.

    Raises:
        ValueError: for an option outside its range.

    Sutskever et al. (2013), On the importance of initialization and momentum in deep learning, §2;
    but here lr multiplies b where it is used.

    >>> import tinygrad_rnn as tg
    >>> x = tg.Tensor([1.0], requires_grad=True)
    >>> optimizer = tg.optim.SGD([x], lr=0.25)
    >>> (x * x).sum().backward(); optimizer.step()
    >>> x.item()
    0.5
    """

    rule = equations.SGD

    def __init__(self, params: Params, lr: float = 1e-3, momentum: float = 0.0,
                 dampening: float = 0.0, weight_decay: float = 0.0, nesterov: bool = False, *,
                 maximize: bool = False) -> None:  # fmt: skip
        super().__init__(params, lr=lr, momentum=momentum, dampening=dampening, nesterov=nesterov,
                         weight_decay=weight_decay, maximize=maximize)  # fmt: skip


class RMSprop(Optimizer):
    """Steps scaled by a running root mean square of the gradient.

        g ← g + weight_decay · p;  v ← α v + (1 - α) g²;  m ← α m + (1 - α) g
        s = g / (√v + ε), or if centered g / (√(v - m²) + ε)
        b ← momentum · b + s;  p ← p - lr · b

    Args:
        params: tensors with requires_grad, or dicts of "params" and options.
        lr: learning rate.
        alpha: α, how much of the means stays.
        eps: ε, added to the root.
        weight_decay: weight of ½ p² in what is minimised.
        momentum: how much of b stays; 0: no b is kept.
        centered: divide by the standard deviation, not the root mean square.
        maximize: climb instead.

    Raises:
        ValueError: for an option below 0.

    Graves (2013), Generating Sequences With Recurrent Neural Networks, equations 38-41 (centered;
    there ε stands under the root).

    >>> import tinygrad_rnn as tg
    >>> x = tg.Tensor([1.0], requires_grad=True)
    >>> optimizer = tg.optim.RMSprop([x], lr=0.1, alpha=0.75)
    >>> (x * x).sum().backward(); optimizer.step()
    >>> round(x.item(), 4)
    0.8
    """

    rule = equations.RMSPROP

    def __init__(self, params: Params, lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8,
                 weight_decay: float = 0.0, momentum: float = 0.0, centered: bool = False, *,
                 maximize: bool = False) -> None:  # fmt: skip
        super().__init__(params, lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay,
                         momentum=momentum, centered=centered, maximize=maximize)  # fmt: skip


class Adagrad(Optimizer):
    """Steps scaled by the root of the sum of all squared gradients.

        g ← g + weight_decay · p;  s ← s + g²
        p ← p - lr / (1 + (t - 1) lr_decay) · g / (√s + ε)

    Args:
        params: tensors with requires_grad, or dicts of "params" and options.
        lr: learning rate.
        lr_decay: how fast it falls with the steps t of each parameter.
        weight_decay: weight of ½ p² in what is minimised.
        initial_accumulator_value: what s begins with.
        eps: ε, added to the root.
        maximize: climb instead.

    Raises:
        ValueError: for an option below 0.

    Duchi, Hazan & Singer (2011), Adaptive Subgradient Methods for Online Learning and Stochastic
    Optimization, §1.1 (with diagonal matrices).

    >>> import tinygrad_rnn as tg
    >>> x = tg.Tensor([1.0], requires_grad=True)
    >>> optimizer = tg.optim.Adagrad([x], lr=0.1)
    >>> (x * x).sum().backward(); optimizer.step()
    >>> round(x.item(), 4)
    0.9
    """

    rule = equations.ADAGRAD

    def __init__(self, params: Params, lr: float = 1e-2, lr_decay: float = 0.0,
                 weight_decay: float = 0.0, initial_accumulator_value: float = 0.0,
                 eps: float = 1e-10, *, maximize: bool = False) -> None:  # fmt: skip
        super().__init__(params, lr=lr, lr_decay=lr_decay, weight_decay=weight_decay, eps=eps,
            initial_accumulator_value=initial_accumulator_value, maximize=maximize)  # fmt: skip


class Adam(Optimizer):
    """Steps scaled by running moments of the gradient.

        g ← g + weight_decay · p;  m ← β₁ m + (1 - β₁) g;  v ← β₂ v + (1 - β₂) g²
        p ← p - lr · (m / (1 - β₁ᵗ)) / (√(v / (1 - β₂ᵗ)) + ε)

    Args:
        params: tensors with requires_grad, or dicts of "params" and options.
        lr: learning rate.
        betas: decay of the two moments, each in [0, 1).
        eps: ε, added to the denominator, at least 0.
        weight_decay: weight of ½ p² in what is minimised.
        amsgrad: divide by the root of the largest v so far (Reddi, Kale & Kumar 2018, On the
            Convergence of Adam and Beyond, Algorithm 2).
        maximize: climb instead.

    t counts the steps of each parameter: those in which it had a gradient.

    Raises:
        ValueError: for an option outside its range.

    Kingma & Ba (2015), Adam: A Method for Stochastic Optimization, Algorithm 1.

    >>> import tinygrad_rnn as tg
    >>> x = tg.Tensor([1.0], requires_grad=True)
    >>> optimizer = tg.optim.Adam([x], lr=0.1)
    >>> (x * x).sum().backward(); optimizer.step()
    >>> round(x.item(), 4)
    0.9
    """

    rule = equations.ADAM

    def __init__(self, params: Params, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0.0, amsgrad: bool = False, *,
                 maximize: bool = False) -> None:  # fmt: skip
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay,
                         amsgrad=amsgrad, maximize=maximize)  # fmt: skip


class AdamW(Adam):
    """Adam whose weight decay is apart from the gradient: first p ← p - lr · weight_decay · p.

    Args:
        params, lr, betas, eps, amsgrad, maximize: as for Adam.
        weight_decay: share of p, times lr, that a step takes away.

    Loshchilov & Hutter (2019), Decoupled Weight Decay Regularization, Algorithm 2.

    >>> import tinygrad_rnn as tg
    >>> x = tg.Tensor([1.0], requires_grad=True)
    >>> optimizer = tg.optim.AdamW([x], lr=0.1, weight_decay=0.5)
    >>> (x * x).sum().backward(); optimizer.step()
    >>> round(x.item(), 4)
    0.85
    """

    rule = equations.ADAMW

    def __init__(self, params: Params, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 1e-2, amsgrad: bool = False, *,
                 maximize: bool = False) -> None:  # fmt: skip
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)
