"""The filter language: fields, terms, patterns, and the forms that the wandb client sends."""
