"""Score sequences at all removal levels in one pass.

`nested.NestedModel` takes queries (`prefix_tree.ScoringQuery`) and returns log-likelihoods for each
level. Queries become trees of shared prefixes (`prefix_tree`) in batches (`batches`). Rows split
where their levels part (`branches`, `level_masks`); `sharing` decides what a model may share, and
`read_out` gives the likelihoods of tokens.
"""
