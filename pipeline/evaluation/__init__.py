"""How good a prediction is: statistics that add over chunks, and the metrics of their total."""
