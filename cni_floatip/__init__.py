"""cni-floatip: a floating IP for pods on Amazon EKS, as a chained CNI plugin."""

__version__ = "0.3.0"
