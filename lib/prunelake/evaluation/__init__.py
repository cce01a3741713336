"""Evaluate examples at all levels: from token ids and a model to rows of the lake.

`predictions` comes first. `attributions` explains these predictions, with one module for each
method (`shapley`, `difference_shap`, `captum_methods`, `gradients`) and `masked_prompts` to score
masks. `deletion_curves` and `aopc_bounds` delete the tokens that attributions rank. `texts`
continues prompts. All ask the model through `inference.nested.NestedModel`; each returns a frame of
`schema.run_tables`.
"""
