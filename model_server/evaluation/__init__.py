"""How good a ranking is: full-catalogue metrics and the baselines every ranker must beat."""
