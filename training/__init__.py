"""Training: `stages/`, the `dataset/` they read, their `evaluation/`, ablation matrices."""
