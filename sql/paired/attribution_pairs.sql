create view attribution_pairs as
select
    run_id,
    model,
    strategy,
    task,
    level,
    example_id,
    method,
    seed,
    other_level,
    other_seed,
    token_count,
    common_5 / least(5, token_count) as overlap_5,
    common_10 / least(10, token_count) as overlap_10,
    common_20 / least(20, token_count) as overlap_20,
    -- Pearson's correlation of average ranks; undefined if all scores of one attribution are equal.
    case when squared_norms > 0 then product / sqrt(squared_norms) end as spearman
from compared_ranks;

comment on view attribution_pairs is
'run x level x example x method x seed x other level x other seed. Agreement of two attributions of
one example by one method. The other attribution is from a lower level, or from the same level with
the same or a lower seed. overlap_k: the share of common tokens among the k tokens with the highest
signed scores (of equal scores the earlier token; k is at most the token count). spearman: the rank
correlation of all scores. Attributions have no pairs if they have a problem or different token
counts, if their tokenizer is not the tokenizer of level 0 (see levels), or if their method is
random. difference_shap has only pairs of seeds at one level: it computes the scores of every level
from the scores of level 0, so its levels agree more than their explanations do.';
