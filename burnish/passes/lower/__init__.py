"""Standard operators become the fastest kernels measured on the target."""
