"""How good probabilities are, whoever made them: metrics, what days explain, and what came true of what was served."""
