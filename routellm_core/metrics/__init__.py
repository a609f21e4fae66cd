"""Pure functions of arrays: cost–quality curves, intervals, held-out comparison, reliability, baselines."""
