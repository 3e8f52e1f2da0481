"""The paper's analyses of finished evaluations, one file per study."""
