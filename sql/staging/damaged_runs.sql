create view damaged_runs as
select
    run_id,
    file,
    problem,
    remedy
from lake.damaged_files;

comment on view damaged_runs is
'run x damaged file, for hidden runs. A run (or profile) is hidden if one of its files is damaged; a
damaged file of an analysis hides the analysis. file: its name in the lake. run_id is null if the
file no longer shows which runs it had.';
