"""What the `wandb` client speaks: `POST /graphql`, schema first.

Resolvers translate a question, ask `dispatcher.control` or the storage, and translate the answer; no rule is made here.
"""
