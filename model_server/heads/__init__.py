"""What a score means: grades, opening, opting out and coming anyway, as calibrated chances; numpy only."""
