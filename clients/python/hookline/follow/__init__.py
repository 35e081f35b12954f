"""Following the files that training programs write: `.wandb` files and TensorBoard's event files."""
