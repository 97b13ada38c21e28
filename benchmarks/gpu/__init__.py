"""The parts of the check of a GPU, each independent of the others: see `benchmarks.gpu_check`."""
