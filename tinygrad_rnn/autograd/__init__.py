"""The engine. Read graph, flow, op, ops/elementwise, tensor: that is all of it."""
