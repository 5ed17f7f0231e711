"""The screens: what is shown when, and what each key does there."""
