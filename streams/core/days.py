"""UTC days, by which cohorts are kept."""

DAY_S = 86_400
