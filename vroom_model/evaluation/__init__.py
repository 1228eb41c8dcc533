"""How good a model is: metrics, ranges, the gate, drift."""
