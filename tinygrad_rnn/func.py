"""Functions in, derivatives out: grad, value_and_grad, vjp, jvp, jacobian, hessian, hvp."""

from tinygrad_rnn.transforms import grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp

__all__ = ["grad", "hessian", "hvp", "jacobian", "jvp", "value_and_grad", "vjp"]
