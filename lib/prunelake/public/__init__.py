"""The objects behind `import prunelake as pl`: a model, a run, a lake."""
